// SPDX-License-Identifier: MIT
/*
 * The programs that `kademlua bench --xdp` needs around the fast path: `generate` asks, `sink` counts the
 * replies, and `swap` is the least that an answer can cost, to compare with.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bench.h"

#define AT_MESSAGE (sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr))
#define AT_RPC_ID 21
#define AT_CALL 29
#define ID_LEN 20

/* Settings of a measurement. */
volatile const __u32 CLIENT_IFINDEX = 0;
volatile const __u16 SERVER_PORT = 0;
volatile const __u16 CLIENT_PORT = 0;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct question);
} question SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct replies);
} replies SEC(".maps");

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct headers {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

/*
 * Run by the kernel's test run, with frames that it recycles: each comes as the server left it, so the
 * server's changes are written over. Any bytes may lie behind the question.
 */
SEC("xdp")
int generate(struct xdp_md *ctx)
{
	__u32 zero = 0, len, at;
	struct question *q = bpf_map_lookup_elem(&question, &zero);
	__u32 random[ID_LEN / 4];

	if (!q)
		return XDP_ABORTED;
	/* Only a change of the length makes the kernel forget the one that the reply had. */
	if (bpf_xdp_adjust_tail(ctx, -GENERATE_EXTRA))
		return XDP_ABORTED;
	len = q->len;
	if (len < 1 || len > QUESTION_MAX || bpf_xdp_store_bytes(ctx, 0, q->bytes, len))
		return XDP_ABORTED;
	for (int i = 0; i < ID_LEN / 4; i++)
		random[i] = bpf_get_prandom_u32();
	if (bpf_xdp_store_bytes(ctx, AT_MESSAGE + AT_RPC_ID, random, 8))
		return XDP_ABORTED;
	at = q->at_target;
	if (at && bpf_xdp_store_bytes(ctx, at, random, sizeof(random)))
		return XDP_ABORTED;
	return bpf_redirect(CLIENT_IFINDEX, 0);
}

/* The headers, if the packet is a datagram between those ports. */
static __always_inline struct headers *between(struct xdp_md *ctx, __u16 from, __u16 to)
{
	struct headers *h = (void *)(long)ctx->data;

	if ((void *)(h + 1) > (void *)(long)ctx->data_end || h->eth.h_proto != bpf_htons(ETH_P_IP) ||
	    h->ip.ihl != 5 || h->ip.protocol != IPPROTO_UDP || h->udp.dest != bpf_htons(to) ||
	    (from && h->udp.source != bpf_htons(from)))
		return NULL;
	return h;
}

/* At the client: counts the replies to the generator's requests. Everything else, the packets of
 * ordinary sockets among it, passes. */
SEC("xdp")
int sink(struct xdp_md *ctx)
{
	struct headers *h = between(ctx, SERVER_PORT, CLIENT_PORT);
	struct replies *all;
	__u8 *message;
	__u32 zero = 0;

	if (!h)
		return XDP_PASS;
	message = (void *)(h + 1);
	all = bpf_map_lookup_elem(&replies, &zero);
	if (!all)
		return XDP_DROP;
	all->any++;
	if ((void *)(message + AT_CALL + 1) <= (void *)(long)ctx->data_end &&
	    message[AT_CALL] == CALL_RESPONSE) {
		all->responses++;
		all->bytes += ctx->data_end - ctx->data;
	}
	return XDP_DROP;
}

/* At the server: sends the request back as it is. */
SEC("xdp")
int swap(struct xdp_md *ctx)
{
	struct headers *h = between(ctx, 0, SERVER_PORT);
	__u8 mac[ETH_ALEN];
	__be32 address;
	__be16 port;

	if (!h)
		return XDP_PASS;
	__builtin_memcpy(mac, h->eth.h_source, ETH_ALEN);
	__builtin_memcpy(h->eth.h_source, h->eth.h_dest, ETH_ALEN);
	__builtin_memcpy(h->eth.h_dest, mac, ETH_ALEN);
	address = h->ip.saddr;
	h->ip.saddr = h->ip.daddr;
	h->ip.daddr = address;
	port = h->udp.source;
	h->udp.source = h->udp.dest;
	h->udp.dest = port;
	return XDP_TX;
}
