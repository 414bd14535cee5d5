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

/* The counter of this key on this CPU. If the table is full, the one that
 * takes in all the rest with the same verdict and cause. *first says that
 * nobody has counted this key before. */
static __always_inline struct flow_count *counter_of(struct flow_key *key,
						     bool *first)
{
	struct flow_count *count = counts.lookup(key), *zero;
	int rest = 0;

	*first = false;
	if (count)
		return count;
	zero = zeros.lookup(&rest);
	if (zero)
		*first = !counts.insert(key, zero);
	count = counts.lookup(key);
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

/* What follows the end of a name is left for the reader to cut off. */
static __always_inline void copy_name(__u8 *to, struct net_device *dev)
{
	if (dev)
		load_kernel(to, 16, &dev->name);
	else
		__builtin_memset(to, 0, 16);
}

static __always_inline void copy_kind(__u8 *to, struct net_device *dev)
{
	struct rtnl_link_ops *ops = dev ? READ(dev, rtnl_link_ops) : 0;

	if (ops)
		load_kernel(to, 16, READ(ops, kind));
	else
		__builtin_memset(to, 0, 16);
}

/* An event whose fixed part is zero, or 0 if the ring is full, which is then
 * counted. */
static __always_inline struct event *reserve_event(__u32 type)
{
	struct event *event = ring.ringbuf_reserve(sizeof(struct event));

	if (!event) {
		lose(LOSS_RING_FULL);
		return 0;
	}
	__builtin_memset(event, 0, __builtin_offsetof(struct event, packet));
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
		load_kernel(event->packet, sizeof(event->packet), p->head + p->at);
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
