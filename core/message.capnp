# SPDX-License-Identifier: Apache-2.0
# What a message holds when it is not raw bytes: this file is the specification of it.
#
# A message is one segment, without a segment table: its length comes with the record that
# carries it. The root is a Datum, a Request or a Reply, and the record's kind says which.
# All numbers are little-endian. A Datum nested deeper than 128 is refused at both ends.
@0xbd1ccf23f038022f;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("places::wire");

struct Datum {
  # One value of any kind. Three words, plus what the pointer leads to.
  union {
    void @0 :Void;
    # Nothing: what a call without a result answers, an empty std::optional.
    boolean @1 :Bool;
    integer @2 :Int64;
    natural @3 :UInt64;
    # Only for numbers above the range of `integer`, so each number has one form.
    real @4 :Float64;
    # All 64 bits are kept, a NaN's payload too.
    character @5 :UInt32;
    # A Unicode code point.
    symbol @6 :Data;
    text @7 :Data;
    # Data, not Text: a string may hold zeros and need not be UTF-8.
    bytes @8 :Data;
    list @9 :List(Datum);
    # Also what has no order worth keeping or no single type: sets, linked lists, tuples.
    vector @10 :List(Datum);
    hash @11 :List(Datum);
    # Keys and values in turn, so an even number of them. Of equal keys the last one counts.
    packed :group {
      # One or more values of one trivially copyable type, as they are in memory.
      type @12 :UInt16;
      # Below 64: 1 bool, 2 char32, 4 to 7 int8 to int64, 8 to 11 uint8 to uint64,
      # 12 float, 13 double. Others: the sender's hash of the type's name.
      elements @13 :Data;
    }
    record @14 :Record;
    variant :group {
      # One alternative of a std::variant.
      index @15 :UInt16;
      held @16 :Datum;
    }
  }
}

struct Record {
  # A described struct. The reader finds fields by name: it ignores those it does not know, and
  # misses none but those it declares as std::optional.
  names @0 :Data;
  # Each name followed by a zero, in the order of `fields`: one comparison tells a reader that
  # sender and receiver agree.
  fields @1 :List(Datum);
}

struct Request {
  # A call of a server's method.
  id @0 :UInt64;
  # Chosen by the caller; its reply carries it.
  method @1 :Text;
  arguments @2 :List(Datum);
}

struct Reply {
  id @0 :UInt64;
  union {
    result @1 :Datum;
    error @2 :Text;
    # The method threw this.
  }
}
