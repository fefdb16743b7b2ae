/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One ring between two processes that sleep, wake, shut and die. check.sh searches every state.
 *
 * Step by step after shm/ring.cpp and shm/endpoint.cpp; each inline and label names its function. One
 * statement is one access to shared memory. `producer_side` is put_for() and shut(), `consumer_side`
 * is peek_for(), release() and shut(), both sleeping as core/process.cpp does: on the bell and on
 * a word of whoever hears of deaths (the board).
 *
 * Memory is x86-TSO. A store enters its process' buffer, first in, first out, and leaves it whenever
 * `buffer` moves; a seq_cst store and a read-modify-write wait until it is empty; loads are in
 * order. So release in the place of seq_cst is PLAIN in the place of SEQ_CST. No process loads a word
 * that it stores, so nothing is forwarded.
 *
 * Shown for SENT lines through a ring of RING lines, in records of one and two lines and spans of two
 * records, released one by one or together, either side shutting or stopping wherever it may:
 *   - nobody sleeps for ever whose reason has come: a record, room, the other's end (judge)
 *   - records arrive once, in order and whole, and none is overwritten before it is released
 *   - all that was accepted is read before `closed` or `peer_dead` is said
 *   - nobody is woken for ever to find nothing (no cycles, with -DNP)
 * -DEARLY    one sleep returns for no reason, as by a signal
 * -DDEATH    one of the two is killed, at any step; then comes the death report
 * -DDOORBELL they sleep on a queue of ids instead of a futex
 * -DM_name   one thing is broken: check.sh has the list, and each must be found
 *
 * Not shown: the looks before a park (spins, ample room), which only find earlier what is looked for
 * after it; machines weaker than x86 (what the acquire and the seq_cst of a load are for cannot fail
 * here); more lines, processes or deaths; the word past all records, which is stored and looked at
 * as the state is; both roles of one end asleep at once; a full
 * queue of doorbell ids; epochs and bells that wrap; a peer that breaks the rules (tests/fuzz); and
 * that the C++ does what is written here.
 */

#ifndef RING
#define RING 2
#endif
#ifndef SENT
#define SENT 4
#endif

/* -- shared memory: the words of layout.hpp -- */

#define TAG(position) ((position) % RING)
#define BODY(position) (RING + (position) % RING)  /* length and payload: one word to save states */
#define WRITER_PARK (2 * RING)        /* the producer's half, as are the two above */
#define WAKE_AT (2 * RING + 1)
#define BELL_P (2 * RING + 2)
#define STATE_P (2 * RING + 3)
#define RELEASED (2 * RING + 4)       /* the consumer's half */
#define READER_PARK (2 * RING + 5)
#define BELL_C (2 * RING + 6)
#define STATE_C (2 * RING + 7)
#define BOARD_P (2 * RING + 8)        /* the nursery's board, and peer_dead_ in each process */
#define BOARD_C (2 * RING + 9)
#define DEAD_P (2 * RING + 10)
#define DEAD_C (2 * RING + 11)

byte mem[2 * RING + 12];

#define TAG_AT(position) ((position) + 1)                      /* one per position, never zero */
#define PAYLOAD(position, lines) (100 + 2 * (position) + (lines))     /* never a tag */

/* -- store buffers -- */

chan out_p = [6] of {byte, byte};
chan out_c = [6] of {byte, byte};

#define PLAIN(out, word, value) out ! word, value
#define SEQ_CST(out, word, value) atomic { empty(out) -> mem[word] = value }

proctype buffer(chan out) {
    byte word, value;
end:
    do
    :: d_step { out ? word, value; mem[word] = value; word = 0; value = 0 }
    od
}

/* -- what the checks know and no process reads -- */

byte head;          /* accepted: try_put has stored the tag */
byte wanted;        /* lines that the producer asks for */
byte read;          /* stepped over */
byte given;         /* the consumer reads nothing below it any more */
bool killed_p, killed_c;
bool shut_p, shut_c;

/* -- sleeping: endpoint::wait_record and wait_room, sleep_until_changed, wake_all -- */

byte asleep_p, asleep_c;        /* 1: in the queue of the bell, 2: and of the board */
byte calls_p, calls_c;          /* ids in the doorbell's queue */

/* A bell is only ever compared with what its sleeper has read: so it holds whether it has changed
   since then, or that nobody has read it. The board is changed once. */
#define UNREAD 0
#define SAME 1
#define CHANGED 2

/* The kernel compares and queues under the lock of each word, one after the other. */
#ifdef DOORBELL
#define READ_BELL(bell) skip
#define FORGET_BELL(bell) skip
#define SLEEP(asleep, calls, bell, board) \
    asleep = 2; \
end_asleep: \
    atomic { (calls > 0 || mem[board] != board_seen || asleep == 0) -> calls = 0; asleep = 0 }
#else
#define READ_BELL(bell) mem[bell] = SAME
#define FORGET_BELL(bell) mem[bell] = UNREAD
#define SLEEP(asleep, calls, bell, board) \
    atomic { \
        if \
        :: mem[bell] == SAME -> asleep = 1 \
        :: else \
        fi \
    } \
    atomic { \
        if \
        :: asleep == 1 && mem[board] == board_seen -> asleep = 2 \
        :: asleep == 1 && mem[board] != board_seen -> asleep = 0 \
        :: else \
        fi \
    } \
end_asleep: \
    asleep == 0
#endif

inline call_all(asleep, queued) {
    d_step {
        if
        :: asleep >= queued -> asleep = 0
        :: else
        fi
    }
}

/* endpoint::wake */
inline wake(out, bell, asleep, calls) {
#ifdef DOORBELL
    atomic { empty(out) -> calls = 1 }
#else
#ifndef M_BELL_UNCHANGED
    atomic {
        empty(out) ->
        if
        :: mem[bell] == SAME -> mem[bell] = CHANGED
        :: else
        fi
    }
#endif
    call_all(asleep, 1)
#endif
}

/* A park word has an epoch of its own each time. Words are only ever compared for equality, so
   one that neither the memory nor the other side has is as good as a new one. */
byte word_p, word_c, rung_p, rung_c;
#ifdef M_NO_EPOCH
#define NEW_EPOCH(park, rung, word) epoch = 1
#else
#define NEW_EPOCH(park, rung, word) \
    d_step { \
        epoch = 1; \
        do \
        :: epoch == mem[park] || epoch == rung || epoch == word -> epoch++ \
        :: else -> break \
        od \
    }
#endif

mtype = {ok, nothing, no_room, closed, peer_dead};

/* -- the producer -- */

/* producer::has_room: check_open, room_for, refresh_released */
inline has_room() {
    atomic {
        outcome = ok;
        if
        :: mem[DEAD_P] -> outcome = peer_dead
        :: else
        fi
    }
    atomic {
        if
        :: outcome == ok && mem[STATE_C] -> outcome = closed
        :: else
        fi
    }
    atomic {
        if
        :: outcome == ok && head + wanted - cache > RING ->
            cache = mem[RELEASED];
            assert(cache <= head);
            if
            :: head + wanted - cache > RING -> outcome = no_room
            :: else
            fi
        :: else
        fi
    }
}

/* producer::write_header and the copy before it */
inline lay(position, lines) {
    assert(position + lines - given <= RING);
    PLAIN(out_p, BODY(position), PAYLOAD(position, lines));
    if
    :: lines == 2 -> PLAIN(out_p, TAG(position + 1), PAYLOAD(position, lines))
    :: else
    fi
}

/* producer::publish_next */
inline publish_next(lines) {
#ifdef M_TAG_NOT_SEQ_CST
    atomic { PLAIN(out_p, TAG(head), TAG_AT(head)); head = head + lines }
#else
    atomic { empty(out_p) -> mem[TAG(head)] = TAG_AT(head); head = head + lines }
#endif
}

/* The same for a batch of two: the later tag first, and with the first one both are accepted. */
inline publish_batch() {
    PLAIN(out_p, TAG(head + 1), TAG_AT(head + 1));
#if defined(M_TAG_NOT_SEQ_CST) || defined(M_BATCH_NOT_SEQ_CST)
    atomic { PLAIN(out_p, TAG(head), TAG_AT(head)); head = head + 2 }
#else
    atomic { empty(out_p) -> mem[TAG(head)] = TAG_AT(head); head = head + 2 }
#endif
}

/* producer::wake_reader */
inline wake_reader() {
    word_p = mem[READER_PARK];
    if
    :: atomic { word_p != 0 && word_p != rung_p -> rung_p = word_p; word_p = 0 }
        wake(out_p, BELL_P, asleep_c, calls_c)
    :: else -> word_p = 0
    fi
}

/* producer::park */
inline park_writer() {
    PLAIN(out_p, WAKE_AT, (head + wanted > RING -> head + wanted - RING : 0));
#ifdef M_WRITER_PARK_NOT_SEQ_CST
    PLAIN(out_p, WRITER_PARK, epoch)
#else
    SEQ_CST(out_p, WRITER_PARK, epoch)
#endif
}

proctype producer_side() {
    byte cache, epoch, board_seen;
    bool span;
    mtype outcome;
    {
        outcome = ok;
next:   if
        :: head + 1 <= SENT -> wanted = 1
        :: head + 2 <= SENT -> wanted = 2
        :: atomic { head + 2 <= SENT -> wanted = 2; span = true }
        :: goto shut
        :: goto end_stop
        fi;
put:    /* endpoint::put_for */
        has_room();
        if
        :: outcome == no_room -> goto wait
        :: outcome == closed -> assert(shut_c); goto end_stop
        :: outcome == peer_dead -> assert(killed_c); goto end_stop
        :: else
        fi;
        if
        :: span ->  /* producer::try_add and publish_batch, try_put_span: one look for a sleeper */
            lay(head, 1); lay(head + 1, 1); publish_batch()
        :: else ->
#ifdef M_TAG_BEFORE_PAYLOAD
            publish_next(wanted); lay(head - wanted, wanted)
#else
            lay(head, wanted); publish_next(wanted)
#endif
        fi;
        atomic { wanted = 0; span = false };
        wake_reader();
        goto next;
wait:   /* endpoint::wait_room */
        READ_BELL(BELL_C);
        board_seen = mem[BOARD_P];
        NEW_EPOCH(WRITER_PARK, rung_c, word_c);
        park_writer();
        epoch = 0;
#ifndef M_WRITER_LOOKS_ONCE
        has_room();
#endif
        if
        :: outcome == no_room -> SLEEP(asleep_p, calls_p, BELL_C, BOARD_P)
        :: else
        fi;
        atomic { FORGET_BELL(BELL_C); board_seen = 0 };
        PLAIN(out_p, WRITER_PARK, 0);  /* producer::unpark */
        goto put;
shut:   /* shut_half */
        shut_p = true;
#ifdef M_STATE_P_NOT_SEQ_CST
        PLAIN(out_p, STATE_P, 1);
#else
        SEQ_CST(out_p, STATE_P, 1);
#endif
        if
        :: mem[READER_PARK] != 0 -> wake(out_p, BELL_P, asleep_c, calls_c)
        :: else
        fi;
end_stop:
        false
    } unless { killed_p }
}

/* -- the consumer -- */

#define HAS_RECORD (read - given < RING && mem[TAG(read)] == TAG_AT(read))

/* consumer::try_peek as far as the length: has_record, why_empty */
inline look() {
    atomic { if :: HAS_RECORD -> outcome = ok :: else -> outcome = nothing fi };
    if
    :: outcome == nothing ->
        atomic { if :: mem[STATE_P] -> outcome = closed :: else fi };
        atomic { if :: outcome == nothing && mem[DEAD_C] -> outcome = peer_dead :: else fi };
#ifndef M_NO_LAST_LOOK
        atomic { if :: outcome != nothing && HAS_RECORD -> outcome = ok :: else fi }
#endif
    :: else
    fi
}

/* try_peek from there on, then skip */
inline take() {
    lines = mem[BODY(read)] - PAYLOAD(read, 0);
    assert(lines == 1 || lines == 2);
    assert(read + lines - given <= RING);
#ifdef M_RELEASED_TOO_EARLY
    given = read + lines;
    SEQ_CST(out_c, RELEASED, given);
    assert(mem[BODY(read)] == PAYLOAD(read, lines));
#endif
    if
    :: lines == 2 -> assert(mem[TAG(read + 1)] == PAYLOAD(read, 2))
    :: else
    fi;
    atomic { read = read + lines; lines = 0; assert(read <= SENT) }
}

/* consumer::release, wake_writer */
inline release() {
#ifdef M_RELEASED_NOT_SEQ_CST
    atomic { PLAIN(out_c, RELEASED, read); given = read };
#else
    atomic { empty(out_c) -> mem[RELEASED] = read; given = read };
#endif
    word_c = mem[WRITER_PARK];
    if
    :: word_c != 0 && word_c != rung_c ->
#ifdef M_RUNG_BEFORE_WAKE_AT
        rung_c = word_c;
#endif
        if
        :: atomic { given >= mem[WAKE_AT] -> rung_c = word_c; word_c = 0 }
            wake(out_c, BELL_C, asleep_p, calls_p)
        :: else -> word_c = 0
        fi
    :: else -> word_c = 0
    fi
}

/* consumer::park */
inline park_reader() {
#ifdef M_READER_PARK_NOT_SEQ_CST
    PLAIN(out_c, READER_PARK, epoch)
#else
    SEQ_CST(out_c, READER_PARK, epoch)
#endif
}

proctype consumer_side() {
    byte epoch, lines, board_seen;
    mtype outcome;
    {
        outcome = ok;
next:   if
        :: true
        :: given < read -> release()
        :: goto shut
        fi;
        /* endpoint::peek_for */
        look();
        if
        :: outcome == ok -> take(); goto next
        :: outcome == nothing
        :: else ->  /* what was accepted has been read, and nothing is left that could be */
            assert(read - given == RING || read >= head);
            assert(!(HAS_RECORD));
            assert(outcome == closed -> shut_p : killed_p);
            goto end_stop
        fi;
        /* endpoint::wait_record */
#ifndef M_BELL_READ_AFTER_PARK
        READ_BELL(BELL_P);
#endif
        board_seen = mem[BOARD_C];
        NEW_EPOCH(READER_PARK, rung_p, word_p);
        park_reader();
        epoch = 0;
#ifndef M_READER_LOOKS_ONCE
        look();
#endif
#ifdef M_BELL_READ_AFTER_PARK
        READ_BELL(BELL_P);
#endif
        if
        :: outcome == nothing -> SLEEP(asleep_c, calls_c, BELL_P, BOARD_C)
        :: else
        fi;
        atomic { FORGET_BELL(BELL_P); board_seen = 0 };
        PLAIN(out_c, READER_PARK, 0);  /* consumer::unpark */
        goto next;
shut:   /* shut_half */
        shut_c = true;
#ifdef M_STATE_C_NOT_SEQ_CST
        PLAIN(out_c, STATE_C, 1);
#else
        SEQ_CST(out_c, STATE_C, 1);
#endif
        if
        :: mem[WRITER_PARK] != 0 -> wake(out_c, BELL_C, asleep_p, calls_p)
        :: else
        fi;
end_stop:
        false
    } unless { killed_c }
}

/* -- death, and the end -- */

/* waitpid returns when the last store of the dead process has long left its buffer. */
inline reporter(out, dead, board, asleep) {
#ifdef M_BOARD_BEFORE_OBITUARY
    mem[board] = mem[board] + 1;
    call_all(asleep, 2);
    mem[dead] = 1
#else
    atomic { empty(out) -> mem[dead] = 1 };
    mem[board] = mem[board] + 1;
    call_all(asleep, 2)
#endif
}

proctype nursery() {
end:
    if
#ifdef M_OBITUARY_BEFORE_DEATH
    :: reporter(out_p, DEAD_C, BOARD_C, asleep_c); killed_p = true
#else
    :: killed_p = true; reporter(out_p, DEAD_C, BOARD_C, asleep_c)
#endif
    :: killed_c = true; reporter(out_c, DEAD_P, BOARD_P, asleep_p)
    fi
}

/* A signal, or a bell meant for the other role. */
proctype early_return() {
end:
    if
    :: atomic { asleep_p > 0 -> asleep_p = 0 }
    :: atomic { asleep_c > 0 -> asleep_c = 0 }
    fi
}

/* Nothing can move any more: whoever sleeps now does so for ever. */
proctype judge() {
    timeout;
    assert(asleep_c == 0 || killed_c || !(HAS_RECORD));
    assert(asleep_c == 0 || killed_c || !(shut_p || killed_p));
    assert(asleep_p == 0 || killed_p || head + wanted - given > RING);
    assert(asleep_p == 0 || killed_p || !(shut_c || killed_c))
}

init {
    atomic {
        run buffer(out_p);
        run buffer(out_c);
        run producer_side();
        run consumer_side();
#ifdef EARLY
        run early_return();
#endif
#ifdef DEATH
        run nursery();
#endif
        run judge()
    }
}
