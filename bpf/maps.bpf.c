/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Every map. The sizes can be set from outside (-D), the defaults are here. */
#include <linux/types.h>
#include "helpers.h"
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

/*
 * As BPF_TABLE, but BCC sees how large keys and values are, and nothing else:
 * for all that it sees, it compiles functions that print and scan it, a tenth
 * of its time, for nobody.
 */
#define TABLE(kind, key_type, leaf_type, name, entries, map_flags)            \
	struct name##_table {                                                 \
		struct {                                                      \
			__u8 octets[sizeof(key_type)];                        \
		} key;                                                        \
		struct {                                                      \
			__u8 octets[sizeof(leaf_type)];                       \
		} leaf;                                                       \
		leaf_type *(*lookup)(key_type *);                             \
		int (*update)(key_type *, leaf_type *);                       \
		int (*insert)(key_type *, leaf_type *);                       \
		int (*delete)(key_type *);                                    \
		__u32 max_entries;                                            \
		int flags;                                                    \
	};                                                                    \
	__attribute__((section("maps/" kind))) static struct name##_table     \
		name = { .max_entries = (entries), .flags = (map_flags) }
/*
 * One value. Programs have its address: it is not looked up, and never missing
 * (5.2, d8eca5bbb2be). VALUE_name stands for it in bytecode.
 */
#define ONE(name, leaf_type)                                                  \
	TABLE("array", int, leaf_type, name, 1, 0);                           \
	static __always_inline leaf_type *the_##name(void)                    \
	{                                                                     \
		return (leaf_type *)bpf_pseudo_fd(2, VALUE_##name);           \
	}
#define PERCPU_ARRAY(name, leaf_type, entries)                                \
	TABLE("percpu_array", int, leaf_type, name, entries, 0)
/*
 * One value for each CPU, in an array by its number, to which the loader gives
 * as many entries as there may be CPUs: where a value lies is computed. Of a
 * per-CPU map that would be read from memory, which the cache seldom has.
 */
#define BY_CPU(name, leaf_type) TABLE("array", __u32, leaf_type, name, 1, 0)

ONE(settings, struct config)
/* Two: one is read while the other is written. */
struct sites {
	struct site_table table[2];
};
ONE(sites, struct sites)
/* What the search has found, by location: see site_of(). */
struct site_found {
	__u64 site;
	__u64 mixed;
};
struct found_sites {
	struct site_found at[256];
};
ONE(found_sites, struct found_sites)
TABLE("hash", __u32, __u8, watched_netns, 4096, 0);

/* Exact. Nothing is ever deleted: a program may be holding an entry. Entries
 * are made when needed where the kernel can do so in any context (6.1,
 * 7c8199e24fa0); all of them made ahead are 20 MB. The kernel takes 80 ns to
 * hash and compare a whole flow_key, and 20 for its digest. Not a per-CPU hash:
 * what a program makes there comes out of a reserve of some hundred entries
 * that a worker fills up when it gets to run, and takes three times as long.
 * The loader gives it more entries where there are more CPUs. */
TABLE("hash", struct far_digest, struct flow_count, counts, MAX_FLOWS,
      COUNTS_FLAGS);
/* Counters in places that their digests say, which are found without a search:
 * whoever came first on a CPU keeps the place, all others are in counts. The
 * kernel takes 20 ns less for them. */
#define NEAR_BITS 10
BY_CPU(near_counts, struct near_counts);
_Static_assert(sizeof(struct near_counts) ==
		       sizeof(struct near_count) << NEAR_BITS,
	       "near_counts");
/* Whose digest it is: there before its counter is, and counted after that. */
TABLE("hash", struct digest, struct flow_key, keys, MAX_FLOWS, COUNTS_FLAGS);
ONE(number_of_keys, __u64)
/* A counter that nobody writes to: on the stack, of which functions that are
 * called have little, one would take too much. */
ONE(zeros, struct flow_count)
/* What found no room in counts, by verdict and cause. */
PERCPU_ARRAY(overflow, struct flow_count, 256);
PERCPU_ARRAY(losses, __u64, 5);

/* Which CPU may stream for the keys that share a number. */
struct turn {
	__u64 since;
	__u64 cpu;
};
#define TURNS 16384 /* 2^14, see has_turn() */
struct turns {
	struct turn of[TURNS];
};
ONE(turns, struct turns)
struct ring_table {
	int key;
	__u32 leaf;
	void *(*ringbuf_reserve)(__u64 size);
	void (*ringbuf_submit)(void *data, __u64 flags);
	__u32 max_entries;
};
__attribute__((section("maps/ringbuf"))) static struct ring_table
	ring = { .max_entries = RING_PAGES * 4096 };

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
TABLE("lru_hash", __u64, struct news, news_of, 16384, 0);
/* Where only the message itself can be seen: by what it quotes. Some are about
 * packets that nobody drops here, so the oldest have to make room. */
TABLE("lru_hash", __u64, struct news, quoted_news, 8192, 0);
/*
 * A message in a queue, by the address of its skb. Its drop is counted as told
 * meanwhile; if the message dies after all, the count is moved.
 */
struct waiting {
	struct flow_key key; /* of its drop, once that is counted */
	__u32 length;
	struct digest digest;
	__u64 quoted;
	__u64 about; /* the key of its news */
	__u32 mtu;
	__u8 counted;
	__u8 padding[3];
};
#define WAITING 4096
TABLE("lru_hash", __u64, struct waiting, waiting, WAITING, 0);
/* The packet that this context is telling about: see context_key(). */
TABLE("hash", __u64, __u64, telling, 4096, 0);
/* What is known of the packet that this context is refusing to send. */
enum remark {
	REMARK_HAS_PACKET = 1, /* it will be freed */
	REMARK_DONTFRAG = 2,   /* the socket wants it in one piece */
};
TABLE("hash", __u64, __u64, remarks, 4096, 0);
/* How often a module has come or gone. */
ONE(module_moves, __u64)

/* The last route for a frag-needed that was looked for. */
struct lookup {
	__u32 be_daddr;
	__u32 failed;
};
/* The last packet that got an outer header, the device that made it, how deep
 * the stack was, and the header's addresses, each folded into one number; zero
 * where IPsec has yet to make it. */
struct made {
	__u64 skb;
	struct net_device *dev;
	__u64 stack;
	__u32 saddr;
	__u32 daddr;
};
/* What Open vSwitch is sending, and by which device. */
struct sending {
	__u64 skb;
	struct net_device *dev;
};
/* How many messages that arrived had an event in this second. */
struct received_window {
	__u64 since;
	__u64 number;
};
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
	__u32 length;
	struct packet packet;
	__u64 start; /* fingerprint() of it */
	struct packet cursor; /* how far it has been parsed */
	struct upper upper;
	struct sk_buff *skb;
	struct net_device *out;
	struct net_device *maker; /* of the outer header, 0 if not known */
	__u64 stack; /* an address of it */
	__u64 location;
	__u64 message; /* the skb of the message, while it waits */
	struct digest digest; /* of key, once that is counted */
	__u32 reason;
	__u32 told_mtu; /* what the message says, where that was seen */
	__u32 mtu;
	__u16 site;
	__u8 check;
	__u8 silent;
	__u8 known; /* verdict of the message, or none */
	__u8 cause; /* of its suppression, if that was seen */
	__u8 nested;
	__u8 ipv6;
	__u8 line;   /* whether a lost message is to have one */
	__u8 nests; /* this CPU was at another one */
	__u8 in_tunnel; /* see is_in_tunnel() */
	__u8 first; /* nobody has counted this key before */
	__u8 joined; /* by a bridge, of fragments that do not fit as they came */
	__u8 news_hook;
	__u8 hook; /* netfilter's, that this packet, a message, has come to */
	__u16 flags; /* of the event, where there is no packet; likewise: */
	__u32 mark;
	__u32 news_reason;
	__u64 news_location;
	__u64 about; /* the key of its news */
	struct dst_entry *dst;
	struct quote quote;
};
#define NESTING 4

/* What is known of one CPU, in one map: each is two more lines of cache. */
struct here {
	__u32 depth;   /* of nesting, see struct refusal */
	__u32 padding;
	__u64 emitting; /* the packet whose message is in the output path now */
	struct lookup route;
	struct made made;
	struct sending sending;
	struct received_window received;
	__u64 receiving; /* the message taken up, where its end does not tell */
	struct refusal refusals[NESTING];
};
BY_CPU(cpus, struct here);

static __always_inline struct here *here(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return cpus.lookup(&cpu);
}
