# SPDX-License-Identifier: Apache-2.0
@0xc1a7d0b5e96f2843;
# What two nodes say to each other. This file is the specification; net/README.md tells the story.
#
# On the wire a frame is
#     u32 little-endian N      bytes of body: a multiple of 8, 16 or more
#     N bytes                  one Cap'n Proto message, one segment, without a segment table
# Before the handshake is over a side reads at most 16 KiB in all; afterwards N is at most 65 KiB
# (64 KiB of records and 1 KiB around them). N is compared with the limit before anything is
# allocated.
#
# Reading: traversal limit twice the words of the body (1024 at least), nesting 16. A union member,
# an enum or a length that this version does not allow ends the connection with `protocol` or
# `tooLarge`.
#
# Under all this is TLS 1.3 with the node's key as its pre-shared key, or plain TCP on loopback where
# both sides ask for it; net/README.md has the details.
#
# Sides: the *dialing* side opened the TCP connection, the *accepting* side listens. After the
# handshake both may send every frame unless said otherwise, and what a peer may ask for is a matter
# of its rights.
#
# Order: frames that are not `data` overtake `data`. Nothing here relies on the order of a `data`
# frame and another frame, except that a channel's `data` frames come in rising position.
#
# Channel numbers belong to one connection: the side that opens a channel chooses the number, odd if
# it dialed, else even, each higher than the one before. 0 is "no channel". A place's number is
# chosen by the node that runs the place. At most 1024 channels are open at a time.
#
# Positions are byte counts of the records that have crossed, always between two records. Being
# absolute, they may be said twice.
#
# Rights: whoever dialed may ask for what its key allows: to start places, to connect to those that
# have a name, to stop the node, to list what is on it. The node's own key allows all of it, that of
# another node or a guest connecting only. What the key does not allow is answered with
# permissionDenied, and one line in the log. Whoever accepted may send `log` and `output`, and
# `introduce` to who has its own key. An `open` of the other side is refused, any other frame of the
# wrong side is a breach. So is asking on and on without reading the answers.
#
# Peers: over a link on a peer key (see the handshake) both sides may ask to connect, and that is
# all that either may ask for.
#
# Codes (reject, refused, close): 0 none, 1 empty, 2 full, 3 timeout, 4 closed, 5 peerDead, 6
# tooLarge, 7 corrupt, 8 wrongType, 9 nameNotFound, 10 nameTaken, 11 entryNotFound, 12 loadFailed,
# 13 remoteError, 14 nodeUnreachable, 15 addressInUse, 16 badKey, 17 protocol, 18 nodeDown, 19
# notAConnection, 20 badArgument, 21 startFailed, 22 noCore, 23 hostKeyUnknown, 24 hostKeyChanged,
# 25 authRefused, 26 keyUnsupported, 27 hostUnreachable, 28 portRefused, 29 sshLost, 30 noSpace, 31
# noPermission, 32 wrongArchitecture, 33 wrongVersion, 34 programNotFound, 35 permissionDenied, 36
# badKeyFile, 37 refused, 38 misuse. A number is never given a second meaning; an unknown one reads
# as 17.
#
# Texts are UTF-8 for people, at most 32 KiB. Names, symbols and paths are at most 4 KiB, without
# NUL.
#
# Who died:
#   a place                its bridge says `placeDied`, and `close` with the position where its
#                          records end
#   a bridge, or the TCP,  no frame at all: every channel of the connection ends with `peerDead`
#   or a node              once what has arrived is read, and what was asked for and is not
#                          answered is refused with `nodeDown`

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("places::net::wire");

struct Frame {
  union {
    challenge @0 :Challenge;
    hello @1 :Hello;
    welcome @2 :Welcome;
    reject @3 :Reject;
    open @4 :Open;
    opened @5 :Opened;
    refused @6 :Refused;
    data @7 :Records;
    credit @8 :Credit;
    close @9 :Close;
    placeDied @10 :PlaceDied;
    log @11 :Log;
    output @12 :Output;
    exit @13 :Exit;
    ping @14 :Ping;
    pong @15 :Pong;
    listAsk @16 :ListAsk;
    listAnswer @17 :ListAnswer;
    exitRefused @18 :ExitRefused;
    introduce @19 :Introduce;
    introduction @20 :Introduction;
  }
}

# Handshake: challenge, hello, welcome, each once and in this order; each again later is a breach.
#
# A proof is HMAC-SHA256 with the node's 32-byte key over these fields, each after its u32 length:
#   role          "dialing" (in hello) or "accepting" (in welcome): neither proof can be sent back
#   "places/1"    the first protocol's name: the shape of this very computation
#   ranges        protocolMin and protocolMax of challenge, then of hello, four fields of u16
#                 little-endian: nobody between the two can talk them down to an old version
#   nonces        of challenge, then of hello: an old proof is of no use
#   dialing name and incarnation
#   binding       32 bytes from the exporter of TLS that only this connection has; zeros without TLS
#   in welcome only: the chosen protocol, accepting name and incarnation
# Proofs are compared in constant time. The key itself never travels here.
#
# Owners: each key belongs to one name, and lets in nobody under another: a node's own to
# "launcher", and any other to a name that is not this one.
#
# Peer keys: besides its own a node accepts, from each node N, HKDF-SHA256 of its key with the label
# "places/1 peer " and N's name. Such a key belongs to that name, and allows connecting only. It is
# handed out by who has the own keys of both nodes, in an `introduction`.
# Guest keys: the same with "places/1 guest ", for who is no node and is not asked for places.

struct Challenge {
  # Accepting side, first of all, unasked.
  # Check: min <= max, the ranges meet (else the dialing side sends `reject` and closes), nonce is
  # 32 bytes.
  protocolMin @0 :UInt16;
  protocolMax @1 :UInt16;
  nonce @2 :Data;                # 32 random bytes, fresh for each connection
}

struct Hello {
  # Dialing side, after `challenge`.
  # Check: min <= max, the ranges meet, name of 1..255 bytes of UTF-8 without control
  # characters (keys.hpp) and that of the key's owner, lengths, proof. Nothing is started, mapped or
  # logged by name for a peer whose proof failed: `reject` with badKey, and close.
  protocolMin @0 :UInt16;
  protocolMax @1 :UInt16;
  nodeName @2 :Text;             # what the peer calls itself; believed because the proof covers it,
                                 # and under TLS because the key was shown under the same name
  incarnation @3 :Data;          # 16 random bytes, fresh for each start of that node
  nonce @4 :Data;                # 32
  proof @5 :Data;                # 32
}

struct Welcome {
  # Accepting side, after a good `hello`; the last frame of the handshake.
  # Check: protocol is the highest that both ranges hold, name and lengths as above, proof. If the
  # proof fails the other side is an impostor: close without a word.
  protocol @0 :UInt16;
  nodeName @1 :Text;
  incarnation @2 :Data;
  proof @3 :Data;
}

struct Reject {
  # Either side, during the handshake, at most once, then it closes. The receiver reports `text` and
  # closes.
  code @0 :UInt16;
  text @1 :Text;                 # names both protocol ranges where they are the cause
  protocolMin @2 :UInt16;        # the sender's own range
  protocolMax @3 :UInt16;
}

struct Open {
  # Asks for a channel to a new place or to a named one. Answered by `opened` or `refused`, once.
  # Check: number higher than the last one and of the sender's parity, else a breach; ringBytes
  # within this node's limits (128 KiB), channels left, else `refused`.
  channel @0 :UInt64;
  ringBytes @1 :UInt64;          # wanted capacity of each of the two rings
  union {
    startPlace :group {
      named @2 :Text;            # name under which the place can be found; empty: anonymous, and it
                                 # is killed two seconds after its channel was closed or lost
      union {
        entry @3 :Text;          # an entry that the node's executable has registered
        # A symbol in a shared object on the node's own disk; only in one that the node was started
        # with, else permissionDenied, unless the same user has started it on the same host.
        # `opened` then only says that the place is there; the place itself loads the object and
        # puts what came of it into its first record.
        module :group {
          library @4 :Text;
          symbol @5 :Text;
        }
      }
    }
    connectName @6 :Text;        # a connection to the living place of that name
  }
}

struct Opened {
  # Answers `open`; `limit` is the first credit. The side that asked sends `credit` for its own ring
  # in return, and the channel's records flow both ways from then on.
  # Check: the channel was asked for and not answered yet.
  channel @0 :UInt64;
  limit @1 :UInt64;              # absolute position up to which the asked side's ring has room
  place @2 :UInt64;              # the place's number on that node, as in `placeDied`
}

struct Refused {
  # Answers `open` when there is no channel. The number is used up.
  channel @0 :UInt64;
  code @1 :UInt16;
  text @2 :Text;
}

struct Records {
  # A span of whole ring records, header and padding included, as in the sender's ring; but the tag
  # of each header and the padding behind each payload are zero: a tag would give away the ring's
  # nonce, and the padding is of older records. A receiver reads neither.
  # Check: channel is open; position is where the last one ended; the end is within the room of the
  # ring and not behind a `close`; and each record as if a hostile place had written it, before any
  # of it is put into a ring. The top bit of a kind says that the message goes on in the next record;
  # the one below it that the record is a pack: its flags say of how many messages, 1 or more, and
  # its payload is u16 flags of each, u48 zero, and for each u32 length, u32 zero, octets, zeros up
  # to a multiple of 8. Only the header of a pack is checked here, whoever reads it checks the rest.
  # Below these bits, kinds from 64 on are a breach; but kind 67, in no pack, is the next part of a
  # message that fits no record, and the first record of a place that was started from a `module` is
  # of kind 0x2040 (it has begun) or 0x2041 (it could not). Bit 0x2000 says that the record is no
  # message, and counted nowhere. For an unknown channel: ignored, it has ended here meanwhile. For
  # a local process that reads no more: dropped, and acknowledged as `dropped`.
  # Dying: not acknowledged by `credit` means still in the sender's ring, and perhaps in the
  # receiver's too.
  channel @0 :UInt64;
  position @1 :UInt64;           # of the first record
  records @2 :Data;              # 1..64 KiB, a multiple of the ring's 64 bytes; last in the message
}

struct Credit {
  # The receiver of a channel's data tells its sender how far it is: in step with data, and when
  # half of the ring is free again.
  # Once the process of the channel reads no more, the receiver drops what still comes. `dropped`
  # says so, and from then on grows with `placed`: nothing from placed - dropped on has ever been in
  # the destination ring, or will be.
  # Check: channel is open, placed never falls, placed <= what was sent and the end of a record of
  # it, placed <= limit <= placed + 4 GiB, limit never falls; placed - dropped is the end of a record
  # too, is no lower than `placed` was before the first `dropped`, and stays the same after it. For
  # an unknown channel: ignored.
  channel @0 :UInt64;
  placed @1 :UInt64;             # acknowledges: all below is in the destination ring, or dropped
  limit @2 :UInt64;              # absolute position up to which the destination ring has room
  dropped @3 :UInt64;            # so many bytes below `placed` were dropped
  messageBytesMax @4 :UInt64;    # largest message that the process of the channel takes; 0: it has
                                 # not said so. It holds for what is put from now on, and may fall
                                 # and rise. A node of an older version sends none
}

struct Close {
  # The sender of a channel's data will send nothing after `position`. It may overtake that data:
  # the receiver closes its ring when it has placed everything up to there, not before. It then
  # sends what is left in its own ring, as far as credit goes, and answers with its own `close`;
  # after both the channel is gone. The sender places nothing more either: it drops what still comes,
  # and has sent `credit` for all that it has placed.
  # A place that ends closes its channels a moment before its process is gone, and one whose creator
  # closes is to end. Its node waits for that end, 1 s at most, so that `placeDied` can go ahead of
  # its `close`: after that nothing does.
  # Check: channel is open, position >= what was placed. Saying it twice is harmless, with another
  # position a breach. For an unknown channel: ignored.
  channel @0 :UInt64;
  position @1 :UInt64;
  # closed: in order; peerDead: the place died; corrupt: broken ring; refused: the place that was
  # connected to had no descriptor or memory for its end, and lives
  reason @2 :UInt16;
  text @3 :Text;                 # of `refused`: which process could not use its end, and why; else
                                 # empty. A node of an older version sends none.
}

struct PlaceDied {
  # Whose local process has ended tells the other side at once, and once for each channel that it
  # has not closed: records that wait for credit come after it. Says why, not how much: the channel's
  # records are still delivered up to `close`. For an unknown channel, one that is still to be
  # opened, a second time, behind the sender's `close`, and with a status that is none: ignored.
  place @0 :UInt64;
  channel @1 :UInt64;            # the channel it concerns
  reason @2 :DeathReason;
  status @3 :Int32;              # exit code 0..255, or the signal's number 1..64
  text @4 :Text;                 # of the exception that has ended it, which is `exited` with 1; what
                                 # comes with another end is ignored. The sender cuts it to 4 KiB
                                 # and leaves it out where 1 MiB waits to be sent; the receiver makes
                                 # it printable, and cuts what is longer than 4 KiB. A node of an
                                 # older version sends none, and passes over this one.
}

enum DeathReason {
  exited @0;
  signalled @1;
  unknown @2;                    # also what a receiver makes of a number it does not know
}

struct Log {
  # A line of a node's or place's log, for the node that started it. Never an order, never parsed.
  # Where a mebibyte waits to be sent, lines are counted instead; the next one tells how many.
  place @0 :Text;                # name or number for people; empty: the node itself
  severity @1 :UInt8;            # as syslog: 0 emergency .. 7 debug; higher reads as 7
  time @2 :Int64;                # ns since 1970, by the sender's clock
  text @3 :Text;
}

struct Output {
  # A line that a place wrote to stdout or stderr, without the line feed; longer ones come in
  # pieces of 16 KiB. Where 64 KiB wait to be sent, the rest waits in the place's pipe, and the
  # place with it.
  # Check: no line feed.
  place @0 :Text;
  stream @1 :UInt8;              # 1 stdout, 2 stderr; nothing else
  line @2 :Data;                 # any bytes, at most 32 KiB
}

struct Exit {
  # Asks the node to end with `status`. It overtakes data: whoever wants its records delivered first
  # waits for their answers.
  status @0 :Int32;
}

struct ExitRefused {
  # Answers an `exit` that the peer may not ask for; one that it may is answered by the end.
  # Check: there is such an `exit` that it has not answered yet, else a breach.
  code @0 :UInt16;
  text @1 :Text;
}

struct Introduce {
  # Accepting side, to who has its own key: a place here wants a channel to a node of that name.
  # Answered by `introduction`, in the order of the asks.
  # Check: a name as in `hello`, else a breach.
  node @0 :Text;
}

struct Introduction {
  # Where the node is that was asked for, of those to which whoever dialed has a link. The asking node
  # dials it under the name `asker` with `key`, the peer key of that node for that name (see the
  # handshake). It allows connecting to places, nothing else. Names are those that whoever dialed
  # has given; what nodes call themselves does not count here.
  # `key` is as secret as this link: without TLS it is not.
  # Check: it was asked for, and not answered yet; with a host also a port, and a name as in
  # `hello`; else a breach.
  node @0 :Text;                 # as it was asked for
  code @1 :UInt16;               # not 0: none of this, and `text` says why
  text @2 :Text;
  asker @3 :Text;                # how whoever dialed calls the asking node
  host @4 :Text;                 # empty: it is the asker
  port @5 :UInt16;
  key @6 :Data;                  # 32 bytes, in every answer
  insecure @7 :Bool;             # it speaks no TLS
}

struct ListAsk {
  # Asks for what is on the node. Answered by one or more `listAnswer`, before any of the next ask.
  # A second one before the last answer of the first is a breach.
}

struct ListAnswer {
  # Check: at most 64 rows in all lists together, each text in them at most 255 bytes.
  code @0 :UInt16;               # not 0: there is no list, and `text` says why
  text @1 :Text;
  isLast @2 :Bool;
  places @3 :List(ListedPlace);
  channels @4 :List(ListedChannel);
  links @5 :List(ListedLink);
  locals @6 :List(ListedLocal);
}

struct ListedPlace {
  number @0 :UInt64;             # as in `opened`; 1 is the root
  pid @1 :Int32;
  name @2 :Text;                 # empty: anonymous
  entry @3 :Text;
  ageMs @4 :UInt64;
  state @5 :Text;                # running, sleeping, waiting, stopped, ended, or empty: not known
}

struct ListedChannel {
  # One that crosses a link of the node.
  link @0 :UInt64;
  number @1 :UInt64;             # on that link
  place @2 :UInt64;              # the local one
  sent @3 :UInt64;               # position to which its records have gone out
  acknowledged @4 :UInt64;       # of these, in the far ring
  placed @5 :UInt64;             # position to which records have come in
}

struct ListedLocal {
  # A channel between two processes of the node, neither of them its bridge. What is in its rings is
  # theirs alone.
  number @0 :UInt64;
  first @1 :UInt64;              # the place that was started or connected to
  second @2 :UInt64;             # and by which
  isHeldByFirst @3 :Bool;        # it has its end still
  isHeldBySecond @4 :Bool;
  ringBytes @5 :UInt64;          # each way
}

struct ListedLink {
  number @0 :UInt64;
  peer @1 :Text;
  address @2 :Text;
  ageMs @3 :UInt64;
  rights @4 :Text;               # of the peer here, as words; "-" for none
  isSecure @5 :Bool;
}

struct Ping {
  # Answered at once. A connection ends when the kernel says so, so none is needed for that. Without
  # TLS the dialing side sends one before all else, as soon as it is connected: a node with TLS sees
  # by it at once that it is not meant, and answers `reject` in the clear. It is not answered, may be
  # left out, and a second one during the handshake is a breach.
  sequence @0 :UInt64;
}

struct Pong {
  sequence @0 :UInt64;           # of the ping it answers
}
