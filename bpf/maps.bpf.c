/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Every map. The sizes can be set from outside (-D), the defaults are here. */
#include <linux/types.h>
#include "compat.h"
#include "events.h"
#include "packet.h"
#include "skb.h"

#ifndef MAX_FLOWS
#define MAX_FLOWS 65536
#endif
#ifndef COUNTS_FLAGS
#define COUNTS_FLAGS 0
#endif
#ifndef RING_PAGES
#define RING_PAGES 512
#endif

BPF_ARRAY(settings, struct config, 1);
/* Two: one is read while the other is written. */
BPF_ARRAY(sites, struct site_table, 2);
/* Where the search has ended, by location: the same few come again. */
#define FOUND_SITES 256
BPF_ARRAY(found_sites, __u32, FOUND_SITES);
BPF_HASH(watched_netns, __u32, __u8, 4096);

/* Exact. Nothing is ever deleted: a program may be holding an entry. Entries
 * are made when needed where the kernel can do so in any context (6.1,
 * 7c8199e24fa0); making all of them ahead takes 70 ms and 15 MB. The kernel
 * takes 80 ns to hash and compare a whole flow_key, and 20 for its digest. */
BPF_F_TABLE("percpu_hash", struct digest, struct flow_count, counts, MAX_FLOWS,
	    COUNTS_FLAGS);
/* Whose digest it is: there before its counter is. */
BPF_F_TABLE("hash", struct digest, struct flow_key, keys, MAX_FLOWS,
	    COUNTS_FLAGS);
/* Both halves of a digest are sums of the words of a key, each word times a
 * number of its own: these, which are drawn when a tracer starts. */
struct factors {
	__u64 first[sizeof(struct flow_key) / 4];
	__u64 second[sizeof(struct flow_key) / 4];
};
BPF_ARRAY(factors, struct factors, 1);
/* A counter that nobody writes to: on the stack, of which functions that are
 * called have little, one would take too much. */
BPF_ARRAY(zeros, struct flow_count, 1);
/* What found no room in counts, by verdict and cause. */
BPF_PERCPU_ARRAY(overflow, struct flow_count, 256);
BPF_PERCPU_ARRAY(losses, __u64, 5);

/* Which CPU may stream for the keys that share a number. */
struct turn {
	__u64 since;
	__u64 cpu;
};
#define TURNS 16384
BPF_ARRAY(turns, struct turn, TURNS);
BPF_RINGBUF_OUTPUT(ring, RING_PAGES);

/*
 * What became of the message about one packet, from the moment that the
 * kernel tries to send it until the packet itself is freed.
 */
struct news {
	__u64 fingerprint;
	__u64 location; /* where the message was freed */
	__u64 outside;  /* the packet that was being told about before */
	__u64 under;    /* the packet whose message was being emitted before */
	__u64 message;  /* the skb of the message, while it waits in a queue */
	__u32 mtu;
	__u16 reason;
	__u8 verdict;
	__u8 cause; /* if it is known why it was suppressed */
	__u8 hook;  /* netfilter's, as in events */
	__u8 ipv6;
	__u8 nested; /* another message of this family was being sent */
	__u8 padding[5];
};
/* By the address of the packet's skb. Entries are emptied, not deleted: the
 * same addresses come again, and finding one is cheaper than making it. */
BPF_TABLE("lru_hash", __u64, struct news, news_of, 16384);
/* Where only the message itself can be seen: by what it quotes. Some are about
 * packets that nobody drops here, so the oldest have to make room. */
BPF_TABLE("lru_hash", __u64, struct news, quoted_news, 8192);
/*
 * A message in a queue, by the address of its skb. Its drop is counted as told
 * meanwhile; if the message dies after all, the count is moved.
 */
struct waiting {
	struct flow_key key; /* of its drop, once that is counted */
	__u64 quoted;
	__u64 about; /* the key of its news */
	__u32 length;
	__u32 mtu;
	__u8 counted;
	__u8 padding[7];
};
#define WAITING 4096
BPF_TABLE("lru_hash", __u64, struct waiting, waiting, WAITING);
/* The last route for a frag-needed that was looked for on this CPU. */
struct lookup {
	__u32 be_daddr;
	__u32 failed;
};
BPF_PERCPU_ARRAY(lookups, struct lookup, 1);
/* The packet that this context is telling about: see context_key(). */
BPF_HASH(telling, __u64, __u64, 4096);
/* What is known of the packet that this context is refusing to send. */
enum remark {
	REMARK_HAS_PACKET = 1, /* it will be freed */
	REMARK_DONTFRAG = 2,   /* the socket wants it in one piece */
};
BPF_HASH(remarks, __u64, __u64, 4096);
/* The last packet of this CPU that got an outer header, the device that made
 * it, how deep the stack was, and the header's addresses, each folded into one
 * number; zero where IPsec has yet to make it. */
struct made {
	__u64 skb;
	struct net_device *dev;
	__u64 stack;
	__u32 saddr;
	__u32 daddr;
};
BPF_PERCPU_ARRAY(last_made, struct made, 1);
/* What Open vSwitch is sending on this CPU, and by which device. */
struct sending {
	__u64 skb;
	struct net_device *dev;
};
BPF_PERCPU_ARRAY(last_sending, struct sending, 1);
/* How often a module has come or gone. */
BPF_ARRAY(module_moves, __u64, 1);
/* The packet whose message is in the output path of this CPU right now. */
BPF_PERCPU_ARRAY(emitting, __u64, 1);

/* How many messages that arrived had an event in this second. */
struct received_window {
	__u64 since;
	__u64 number;
};
BPF_PERCPU_ARRAY(received_windows, struct received_window, 1);
/* The message that this CPU is taking up, where its end does not tell. */
BPF_PERCPU_ARRAY(receiving, __u64, 1);

/* What a message quotes, or what a packet would be quoted as. */
struct quote {
	__u64 octets[6];
};

/*
 * Everything about the packet in hand. It is in a map and not on the stack so
 * that the verifier need not follow what is in it: there every mix of known
 * and unknown octets would be a state of its own. An interrupt may come while
 * a process context works, so each level of nesting on a CPU has one.
 */
struct refusal {
	struct flow_key key;
	struct flow_key inside;
	struct packet packet;
	struct packet cursor; /* how far it has been parsed */
	struct upper upper;
	struct quote quote;
	struct sk_buff *skb;
	struct dst_entry *dst;
	struct net_device *out;
	struct net_device *maker; /* of the outer header, 0 if not known */
	__u64 stack; /* an address of it */
	__u64 location;
	__u64 news_location;
	__u64 about;   /* the key of its news */
	__u64 message; /* the skb of the message, while it waits */
	__u32 reason;
	__u32 news_reason;
	__u32 told_mtu; /* what the message says, where that was seen */
	__u32 mtu;
	__u32 length;
	__u16 site;
	__u8 check;
	__u8 silent;
	__u8 known; /* verdict of the message, or none */
	__u8 cause; /* of its suppression, if that was seen */
	__u8 news_hook;
	__u8 nested;
	__u8 ipv6;
	__u16 flags; /* of the event, where there is no packet; likewise: */
	__u32 mark;
};
#define NESTING 4
BPF_PERCPU_ARRAY(refusals, struct refusal, NESTING);
BPF_PERCPU_ARRAY(depth, __u32, 1);
