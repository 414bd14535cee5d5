/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Counting, which is exact, and streaming, which is a sample of known rate. */


/* Nothing is remembered of a message whose drop may go unseen. */
static __always_inline bool is_recording(void)
{
	int zero = 0;
	struct config *cfg = settings.lookup(&zero);

	return cfg && cfg->recording;
}

static __always_inline void lose(int kind)
{
	__u64 *lost = losses.lookup(&kind);

	if (lost)
		__sync_fetch_and_add(lost, 1);
}

/* What the compiler may not read together with what is beside it. */
static __always_inline __u32 alone(__u32 value)
{
	asm volatile("" : "+r"(value));
	return value;
}

/*
 * A word of a key, read in the pieces in which it was written a moment ago: a
 * CPU that finds a word in several pieces in its store buffer waits until all
 * of them have gone to the cache.
 */
static __always_inline __u32 word_of(const struct flow_key *key, int at)
{
	switch (at * 4) {
	case __builtin_offsetof(struct flow_key, site):
		return alone(key->site) | alone(key->verdict) << 16 |
		       alone(key->cause) << 24;
	case __builtin_offsetof(struct flow_key, family):
		return alone(key->family) | alone(key->proto) << 8 |
		       alone(key->outer_family) << 16 |
		       alone(key->outer_proto) << 24;
	case __builtin_offsetof(struct flow_key, be_sport):
		return alone(key->be_sport) | alone(key->be_dport) << 16;
	case __builtin_offsetof(struct flow_key, be_outer_dport):
		return alone(key->be_outer_dport) | alone(key->has_ports) << 16;
	}
	return ((const __u32 *)key)[at];
}

/*
 * Multilinear hashing: whatever two keys may be, by chance of the factors they
 * have the same digest once in 2^64 (Carter and Wegman 1979, Lemire and Kaser
 * 2014: the upper half of each sum takes every value with the same chance).
 */
static __always_inline struct digest digest_of(const struct flow_key *key,
					       const struct factors *by)
{
	__u64 first = 0, second = 0;
	int i;

#pragma unroll
	for (i = 0; i < sizeof(*key) / 4; i++) {
		__u64 word = word_of(key, i);

		first += by->first[i] * word;
		second += by->second[i] * word;
		/* One word after the other, or registers will not do. */
		asm volatile("" : "+r"(first), "+r"(second));
	}
	return (struct digest){ first, second };
}

/* The counter of this key on this CPU. If the table is full, the one that
 * takes in all the rest with the same verdict and cause. *first says that
 * nobody has counted this key before. */
static __always_inline struct flow_count *counter_of(struct flow_key *key,
						     bool *first)
{
	struct flow_count *count, *zero;
	struct digest digest;
	struct factors *by;
	int rest = 0;

	*first = false;
	by = factors.lookup(&rest);
	if (!by)
		return 0;
	digest = digest_of(key, by);
	count = counts.lookup(&digest);
	if (count)
		return count;
	zero = zeros.lookup(&rest);
	if (zero && !keys.update(&digest, key))
		*first = !counts.insert(&digest, zero);
	count = counts.lookup(&digest);
	if (count)
		return count;
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
	int number = (mix * 0x9e3779b1u) >> 18;
	struct turn *turn = turns.lookup(&number);

	if (!turn)
		return true;
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

/* One more packet for this key. The additions are atomic because an interrupt
 * may count for the same key while a process context is at it. Return the
 * counter if an event is to be streamed. */
static __always_inline struct flow_count *
count_packet(struct config *cfg, struct flow_key *key, __u32 length, __u32 mtu)
{
	bool first, due;
	struct flow_count *count = counter_of(key, &first);
	__u64 now = bpf_jiffies64(); /* costs nothing, reading a clock does */

	if (!count)
		return 0;
	__sync_fetch_and_add(&count->packets, 1);
	__sync_fetch_and_add(&count->bytes, length);
	if (!count->first)
		count->first = now;
	count->last = now;
	if (length > count->max_length)
		count->max_length = length;
	due = is_due(cfg, key, count, now, mtu) || first || cfg->every;
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
	int at;

#pragma unroll
	for (at = 0; at < sizeof(*key) / 8; at++)
		to[at] = ((const __u64 *)key)[at];
	_Static_assert(sizeof(*key) % 8 == 4, "one word is left");
	((__u32 *)to)[2 * at] = ((const __u32 *)key)[2 * at];
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
	__u32 size = p->end > p->at ? p->end - p->at : 0;

	if (size > limit)
		size = limit;
	if (size >= sizeof(event->packet)) {
		copy_words(event->packet, sizeof(event->packet) / 8,
			   p->head + p->at);
		event->caplen = sizeof(event->packet);
		return;
	}
	/* Bounded in a form that every verifier understands. */
	asm volatile("%0 &= 0x7f" : "+r"(size));
	if (size && !bpf_probe_read_kernel(event->packet, size, p->head + p->at))
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

/* Take the room of this level of nesting; give it back with leave(). */
static __always_inline struct refusal *enter(void)
{
	int zero = 0, mine;
	__u32 *level = depth.lookup(&zero);
	struct refusal *r;

	if (!level)
		return 0;
	mine = *level;
	r = refusals.lookup(&mine);
	if (r)
		*level = mine + 1;
	else
		lose(LOSS_NESTED);
	return r;
}

static __always_inline void leave(void)
{
	int zero = 0;
	__u32 *level = depth.lookup(&zero);

	if (level)
		*level -= 1;
}

/* What the image puts behind the programs that call it; the numbers only stand
 * for it. */
static int (*call_parse)(struct refusal *r) = (void *)CALL_parse;
static int (*call_report)(struct refusal *r) = (void *)CALL_report;
static int (*call_fragmented)(struct refusal *r) = (void *)CALL_fragmented;
