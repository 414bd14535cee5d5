/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Counting, which is exact, and streaming, which is a sample of known rate. */

#define NSEC_PER_SEC 1000000000ULL

static __always_inline void lose(int kind)
{
	__u64 *lost = losses.lookup(&kind);

	if (lost)
		__sync_fetch_and_add(lost, 1);
}

/* The counter of this key on this CPU. If the table is full, the one that
 * takes in all the rest with the same verdict and cause. */
static __always_inline struct flow_count *counter_of(struct flow_key *key)
{
	struct flow_count *count = counts.lookup(key);
	struct flow_count zero = {};
	int rest;

	if (count)
		return count;
	counts.insert(key, &zero);
	count = counts.lookup(key);
	if (count)
		return count;
	lose(LOSS_COUNTERS_FULL);
	rest = (key->verdict & 7) << 5 | (key->cause & 31);
	return overflow.lookup(&rest);
}

/* Ask, on behalf of all CPUs, whether this key may stream one more event. */
static __always_inline bool admit(struct flow_key *key, struct flow_count *count,
				  __u64 now, __u32 mtu, __u32 rate)
{
	struct gate *gate = gates.lookup(key);
	struct gate fresh = { .window_ns = now, .in_window = 1, .mtu = mtu };
	__u32 before;

	if (!gate) {
		gates.update(key, &fresh);
		return true;
	}
	before = gate->mtu;
	gate->mtu = mtu;
	if (before != mtu)
		return true;
	if (now - gate->window_ns >= NSEC_PER_SEC) {
		gate->in_window = 1;
		gate->window_ns = now;
		return true;
	}
	if (gate->in_window < rate) {
		__sync_fetch_and_add(&gate->in_window, 1);
		return true;
	}
	/* This CPU need not ask again before the window ends. */
	count->window_ns = gate->window_ns;
	count->in_window = rate;
	return false;
}

static __always_inline bool is_due(struct config *cfg, struct flow_key *key,
				   struct flow_count *count, __u64 now,
				   __u32 mtu)
{
	if (cfg->every)
		return true;
	if (now - count->window_ns >= NSEC_PER_SEC) {
		count->window_ns = now;
		count->in_window = 0;
	}
	if (count->in_window >= cfg->rate && count->mtu == mtu)
		return false;
	count->in_window++;
	return admit(key, count, now, mtu, cfg->rate);
}

/* One more packet for this key. The additions are atomic because an interrupt
 * may count for the same key while a process context is at it. Return the
 * counter if an event is to be streamed. */
static __always_inline struct flow_count *
count_packet(struct config *cfg, struct flow_key *key, __u64 now,
	     __u32 length, __u32 mtu)
{
	struct flow_count *count = counter_of(key);
	bool due;

	if (!count)
		return 0;
	__sync_fetch_and_add(&count->packets, 1);
	__sync_fetch_and_add(&count->bytes, length);
	if (!count->first_ns)
		count->first_ns = now;
	count->last_ns = now;
	if (length > count->max_length)
		count->max_length = length;
	due = is_due(cfg, key, count, now, mtu);
	count->mtu = mtu;
	return due ? count : 0;
}

static __always_inline void copy_name(__u8 *to, struct net_device *dev)
{
	if (dev)
		bpf_probe_read_kernel_str(to, 16, &dev->name);
}

static __always_inline void copy_kind(__u8 *to, struct net_device *dev)
{
	struct rtnl_link_ops *ops = dev ? READ(dev, rtnl_link_ops) : 0;

	if (ops)
		bpf_probe_read_kernel_str(to, 16, READ(ops, kind));
}

/* A zeroed event with room for everything, or 0 if the ring is full, which is
 * then counted. */
static __always_inline struct event *reserve_event(__u32 type, __u64 now)
{
	struct event *event = ring.ringbuf_reserve(sizeof(struct event));

	if (!event) {
		lose(LOSS_RING_FULL);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->ts_ns = now;
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
	if (size > sizeof(event->packet))
		size = sizeof(event->packet);
	/* Bounded once more in a form that every verifier understands. */
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
