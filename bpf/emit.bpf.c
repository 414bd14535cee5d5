/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Counting, which is exact, and streaming, which is a sample of known rate. */


/* Nothing is remembered of a message whose drop may go unseen. */
static __always_inline bool is_recording(void)
{
	return the_settings()->recording;
}

static __always_inline bool is_watched(__u32 netns)
{
	return !the_settings()->filter_netns || watched_netns.lookup(&netns);
}

static __always_inline void lose(int kind)
{
	__u64 *lost = losses.lookup(&kind);

	if (lost)
		__sync_fetch_and_add(lost, 1);
}

/* What the compiler may not read together with what is beside it. */
#define alone(value)                                                          \
	({                                                                    \
		__u64 _value = (value);                                       \
		asm volatile("" : "+r"(_value));                              \
		_value;                                                       \
	})

/*
 * Which of the factors a word is multiplied by, in the sum that is the first
 * half of a digest; in the second half it is the one after that. What most
 * packets have comes first: fewer lines of cache.
 */
enum word {
	WORD_NETNS,
	WORD_IFINDEX,
	WORD_SITE,
	WORD_FAMILY,
	WORD_PORTS,
	WORD_ADDRESSES,
	WORD_MAKER = WORD_ADDRESSES + 8,
	WORD_TUNNEL = WORD_MAKER + 2,
	WORD_OUTER_ADDRESSES = WORD_TUNNEL + 2,
	WORDS = WORD_OUTER_ADDRESSES + 8,
};
_Static_assert(sizeof(((struct config *)0)->factors) == (WORDS + 1) * 8,
	       "factors");

#define FACTORS(cfg) ((const __u64 *)(cfg)->factors)

/* One word after the other, or registers will not do. */
#define ADD_WORD(digest, by, at, word)                                        \
	do {                                                                  \
		__u64 _word = (word);                                         \
		(digest).first += (by)[at] * _word;                           \
		(digest).second += (by)[(at) + 1] * _word;                    \
		asm volatile("" : "+r"((digest).first), "+r"((digest).second));\
	} while (0)

/*
 * Multilinear hashing: whatever two keys may be, by chance of the factors they
 * have the same digest once in 2^64 (Carter and Wegman 1979, Lemire and Kaser
 * 2014: the upper half of each sum takes every value with the same chance). The
 * second sum may have the numbers of the first, moved by one: that of the last
 * word in which two keys differ is in no other place of either sum (Mansour,
 * Nisan and Tiwari 1993 on Toeplitz matrices).
 * Words that are zero add nothing, so those that only tunnels have are left out
 * where there is none; and so is what is the same in all IPv4 addresses. A word
 * may hold what has few bits of several members: no two keys have all words
 * alike.
 *
 * Each word is read in the pieces in which it was written a moment ago: a CPU
 * that finds a word in several pieces in its store buffer waits until all of
 * them have gone to the cache.
 */
static __always_inline struct digest digest_of(const struct flow_key *key,
					       const struct config *cfg,
					       bool made)
{
	const __u64 *by = FACTORS(cfg);
	const __u32 *saddr = (const __u32 *)key->saddr;
	const __u32 *daddr = (const __u32 *)key->daddr;
	const __u32 *outer = (const __u32 *)key->outer_saddr;
	struct digest sums = {};
	int i;

	ADD_WORD(sums, by, WORD_NETNS, key->netns);
	ADD_WORD(sums, by, WORD_IFINDEX, key->ifindex);
	ADD_WORD(sums, by, WORD_SITE,
		 alone(key->site) | alone(key->verdict) << 16 |
			 alone(key->has_ports) << 22 | alone(key->cause) << 24);
	ADD_WORD(sums, by, WORD_FAMILY,
		 alone(key->family) | alone(key->proto) << 8);
	ADD_WORD(sums, by, WORD_PORTS,
		 alone(key->be_sport) | alone(key->be_dport) << 16);
	ADD_WORD(sums, by, WORD_ADDRESSES, saddr[3]);
	ADD_WORD(sums, by, WORD_ADDRESSES + 1, daddr[3]);
	if (key->family != 4) {
#pragma unroll
		for (i = 0; i < 3; i++) {
			ADD_WORD(sums, by, WORD_ADDRESSES + 2 + i, saddr[i]);
			ADD_WORD(sums, by, WORD_ADDRESSES + 5 + i, daddr[i]);
		}
	}
	if (made) {
		ADD_WORD(sums, by, WORD_MAKER, key->maker_netns);
		ADD_WORD(sums, by, WORD_MAKER + 1, key->maker_ifindex);
	}
	/* A tunnel's header says something of it whatever may be inside. */
	if (!(key->tunnel_id | key->be_outer_dport | key->outer_family))
		return sums;
	ADD_WORD(sums, by, WORD_TUNNEL, key->tunnel_id);
	ADD_WORD(sums, by, WORD_TUNNEL + 1,
		 alone(key->be_outer_dport) | alone(key->outer_family) << 16 |
			 alone(key->outer_proto) << 24);
#pragma unroll
	for (i = 0; i < 8; i++)
		ADD_WORD(sums, by, WORD_OUTER_ADDRESSES + i, outer[i]);
	return sums;
}

/* Make sure that it is known whose digest it is. Return false if there is no
 * room. */
static __always_inline bool name_digest(struct digest *digest,
					struct refusal *r)
{
	if (keys.insert(digest, &r->key))
		return keys.lookup(digest);
	__sync_fetch_and_add(the_number_of_keys(), 1);
	r->first = true;
	return true;
}

/* Take a place that nobody has. Not between the steps of whoever else on this
 * CPU is doing so; and who interrupts sees a digest when it is all there. */
static __always_inline bool settle(struct near_count *near,
				   const struct digest *digest, bool nests)
{
	if (nests || near->digest.first)
		return false;
	near->digest.second = digest->second;
	forget();
	near->digest.first = digest->first;
	return true;
}

/* The counter of r->key, whose digest is known, on this CPU. If the table is
 * full, the one that takes in all the rest with the same verdict and cause. */
static __always_inline struct flow_count *counter_of(struct refusal *r)
{
	struct far_digest far = { .digest = r->digest };
	struct digest *digest = &far.digest;
	struct flow_key *key = &r->key;
	__u32 cpu = bpf_get_smp_processor_id(), rest;
	struct near_counts *own = near_counts.lookup(&cpu);
	struct near_count *near;
	struct flow_count *count;

	if (!own)
		return 0; /* cannot be */
	near = &own->place[digest->first >> (64 - NEAR_BITS)];
	kept(near);
	r->first = false;
	if (near->digest.first == digest->first &&
	    near->digest.second == digest->second)
		return &near->count;
	far.cpu = cpu;
	count = counts.lookup(&far);
	if (count)
		return count;
	if (name_digest(digest, r)) {
		if (settle(near, digest, r->nests))
			return &near->count;
		counts.insert(&far, the_zeros());
		count = counts.lookup(&far);
		if (count)
			return count;
	}
	lose(LOSS_COUNTERS_FULL);
	rest = (key->verdict & 7) << 5 | (key->cause & 31);
	return overflow.lookup(&rest);
}

/*
 * One CPU at a time streams for a key, so that the rate holds for all of them
 * together; where it was silent for a second, another takes over. Keys may
 * share a turn: that makes events fewer, never more.
 */
static __always_inline bool has_turn(struct config *cfg, struct flow_key *key,
				     struct flow_count *count, __u64 now)
{
	__u64 cpu = bpf_get_smp_processor_id() + 1;
	const __u32 *saddr = (const __u32 *)key->saddr;
	const __u32 *daddr = (const __u32 *)key->daddr;
	__u32 mix = saddr[3] ^ daddr[3] ^ saddr[1] ^ daddr[1] ^ key->netns ^
		    key->be_sport ^ key->be_dport << 16;
	struct turn *turn = &the_turns()->of[(mix * 0x9e3779b1u) >> (32 - 14)];

	if (turn->cpu != cpu) {
		if (turn->cpu && now - turn->since < cfg->second)
			return false;
		count->window = now;
		count->in_window = 0;
	}
	turn->cpu = cpu;
	turn->since = now;
	return true;
}

static __always_inline bool is_due(struct config *cfg, struct flow_key *key,
				   struct flow_count *count, __u64 now,
				   __u32 mtu)
{
	if (now - count->window >= cfg->second) {
		count->window = now;
		count->in_window = 0;
	}
	/* A change of MTU is always worth an event. */
	if (count->mtu && count->mtu != mtu)
		return true;
	if (count->in_window >= cfg->rate || !has_turn(cfg, key, count, now))
		return false;
	count->in_window++;
	return true;
}

/* An interrupt may count for the same key while a process context is at it.
 * Whoever is alone on this CPU adds as anybody would, since what comes in
 * between sees that it is not alone: its additions are atomic, which takes five
 * times as long, and to words of their own. */
static __always_inline void count_one(struct flow_count *count, bool nested,
				      __u32 length)
{
	if (!nested) {
		count->packets += 1;
		count->bytes += length;
	} else {
		__sync_fetch_and_add(&count->nested_packets, 1);
		__sync_fetch_and_add(&count->nested_bytes, length);
	}
}

/* One more packet for r->key. Return the counter if an event is to be
 * streamed. */
static __always_inline struct flow_count *count_packet(struct config *cfg,
						       struct refusal *r)
{
	__u64 now = bpf_jiffies64(); /* costs nothing, reading a clock does */
	__u32 length = r->length, mtu = r->mtu;
	struct flow_count *count;
	bool due;

	r->digest = digest_of(&r->key, cfg, r->maker);
	count = counter_of(r);
	if (!count)
		return 0;
	count_one(count, r->nests, length);
	if (!count->first)
		count->first = now;
	count->last = now;
	if (length > count->max_length)
		count->max_length = length;
	due = is_due(cfg, &r->key, count, now, mtu) || r->first || cfg->every;
	count->mtu = mtu;
	return due ? count : 0;
}

/* Into an event that is zero. What follows the end of a name is left for the
 * reader to cut off. */
static __always_inline void copy_name(__u8 *to, struct net_device *dev)
{
	if (dev)
		copy_words(to, 2, &dev->name);
}

static __always_inline void copy_kind(__u8 *to, struct net_device *dev)
{
	struct rtnl_link_ops *ops = dev ? READ(dev, rtnl_link_ops) : 0;

	if (ops)
		copy_words(to, 2, READ(ops, kind));
}

static __always_inline void copy_key(struct event *event,
				     const struct flow_key *key)
{
	__u64 *to = (__u64 *)&event->key;
	const __u64 *from = (const __u64 *)key;

	__builtin_memcpy(to, from, sizeof(*key));
}

/* An event about a flow whose fixed part is zero but for that, or 0 if the ring
 * is full, which is then counted. */
static __always_inline struct event *reserve_event(__u32 type,
						   const struct flow_key *key)
{
	struct event *event = ring.ringbuf_reserve(sizeof(struct event));

	if (!event) {
		lose(LOSS_RING_FULL);
		return 0;
	}
	__builtin_memset(event, 0, __builtin_offsetof(struct event, key));
	copy_key(event, key);
	__builtin_memset(event->dev, 0,
			 __builtin_offsetof(struct event, packet) -
				 __builtin_offsetof(struct event, dev));
	event->ts_ns = bpf_ktime_get_boot_ns();
	event->type = type;
	event->cpu = bpf_get_smp_processor_id();
	return event;
}

static __always_inline void copy_packet(struct event *event,
					const struct packet *p, __u32 limit)
{
	__u64 size = p->end > p->at ? p->end - p->at : 0;

	if (size > limit)
		size = limit;
	if (size > sizeof(event->packet))
		size = sizeof(event->packet);
	/* Bounded in a form that every verifier understands. One call: as many
	 * single loads, each of which is checked, take longer. */
	asm volatile("%0 &= 0xff" : "+r"(size));
	if (size && size <= sizeof(event->packet) &&
	    !bpf_probe_read_kernel(event->packet, size, p->head + p->at))
		event->caplen = size;
}

/* Nobody is woken: the reader comes by on its own, so that a storm of drops
 * does not turn into a storm of wake-ups. */
static __always_inline void stream(struct event *event)
{
	ring.ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

static __always_inline void stream_path(struct path_event *event)
{
	ring.ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

_Static_assert(NESTING == 4, "enter() bounds by a mask");

/* Take the room of this level of nesting; give it back with leave(). */
static __always_inline struct refusal *enter(struct here *cpu)
{
	struct refusal *r;
	__u64 mine;

	if (!cpu)
		return 0;
	mine = cpu->depth;
	if (mine >= NESTING) {
		lose(LOSS_NESTED);
		return 0;
	}
	cpu->depth = mine + 1;
	/* Bounded where it is used, in a form that every verifier follows. */
	asm volatile("%0 &= 3" : "+r"(mine));
	r = &cpu->refusals[mine];
	kept(r);
	r->nests = mine;
	return r;
}

static __always_inline void leave(struct here *cpu)
{
	cpu->depth -= 1;
}

/* What the image puts behind the programs that call it; the numbers only stand
 * for it. */
static int (*call_parse)(struct refusal *r) = (void *)CALL_parse;
static int (*call_report)(struct refusal *r) = (void *)CALL_report;
static int (*call_fragmented)(struct refusal *r) = (void *)CALL_fragmented;
static int (*call_queued)(struct sk_buff *skb) = (void *)CALL_queued;
