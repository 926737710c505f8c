/* SPDX-License-Identifier: MIT */
/* The shapes that bench.bpf.c and src/bench/xdp/generator.rs share. */
#ifndef KADEMLUA_BENCH_H
#define KADEMLUA_BENCH_H

#define CALL_RESPONSE 129

/* Headers and message of the longest request, without its padding. */
#define QUESTION_MAX 128

/* Bytes that a frame is longer when it goes into the generator. */
#define GENERATE_EXTRA 16

/* The beginning of a frame, whose rpc id and target are filled in. */
struct question {
	__u32 len;
	/* Where the target is; 0: there is none. */
	__u32 at_target;
	__u8 bytes[QUESTION_MAX];
};

struct replies {
	/* All that came, and the responses among it with the bytes of their frames. */
	__u64 any;
	__u64 responses;
	__u64 bytes;
};

_Static_assert(sizeof(struct question) == 136, "question");
_Static_assert(sizeof(struct replies) == 24, "replies");

#endif
