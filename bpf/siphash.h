/* SPDX-License-Identifier: MIT */
/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012) of the 30 bytes that tickets and tokens seal.
 */
#ifndef KADEMLUA_SIPHASH_H
#define KADEMLUA_SIPHASH_H

#include <linux/types.h>

/* The last word holds what is left, and the length in its highest byte. */
#define SEALED_WORDS 4
#define SEALED_LEN 30

static __always_inline __u64 rotate_left(__u64 x, int bits)
{
	return x << bits | x >> (64 - bits);
}

#define SIP_ROUND                                                                        \
	do {                                                                             \
		v0 += v1; v1 = rotate_left(v1, 13); v1 ^= v0; v0 = rotate_left(v0, 32);  \
		v2 += v3; v3 = rotate_left(v3, 16); v3 ^= v2;                            \
		v0 += v3; v3 = rotate_left(v3, 21); v3 ^= v0;                            \
		v2 += v1; v1 = rotate_left(v1, 17); v1 ^= v2; v2 = rotate_left(v2, 32);  \
	} while (0)

/* Little-endian, as the machine is, and as the hash stands in a packet. */
static __noinline __u64 siphash(const __u64 *key, const __u64 *words)
{
	__u64 v0 = 0x736f6d6570736575ULL ^ key[0];
	__u64 v1 = 0x646f72616e646f6dULL ^ key[1];
	__u64 v2 = 0x6c7967656e657261ULL ^ key[0];
	__u64 v3 = 0x7465646279746573ULL ^ key[1];

#pragma unroll
	for (int i = 0; i < SEALED_WORDS; i++) {
		v3 ^= words[i];
		SIP_ROUND;
		SIP_ROUND;
		v0 ^= words[i];
	}
	v2 ^= 0xff;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

#endif
