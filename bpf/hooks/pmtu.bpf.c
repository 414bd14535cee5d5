/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches path MTU exceptions as they are set, and by whom: the stack tells;
 * of IPv4, redirects too, which take what was learned before along.
 * update_or_create_fnhe(), rt6_do_update_pmtu(): 4.x on, cold. Neither runs
 * for a tunnelled packet that changes nothing, as what calls them does. */

#define RTF_GATEWAY 0x0002 /* uapi: linux/route.h, linux/ipv6_route.h */
#define RTF_EXPIRES 0x00400000
#define AF_INET 2
#define AF_INET6 10

/* An event whose fixed part is filled in; 0 if nobody wants it or the ring is
 * full, which is then counted. */
static __always_inline struct path_event *
reserve_path(__u32 type, struct net_device *dev, int lost)
{
	__u32 netns = netns_inum(dev);
	struct path_event *event;

	if (!is_watched(netns))
		return 0;
	event = ring.ringbuf_reserve(sizeof(*event));
	if (!event) {
		lose(lost);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->ts_ns = bpf_ktime_get_boot_ns();
	event->type = type;
	event->cpu = bpf_get_smp_processor_id();
	event->netns = netns;
	event->ifindex = dev ? READ(dev, ifindex) : 0;
	copy_name(event->dev, dev);
	return event;
}

static __always_inline void path4(void *ctx, struct fib_nh_common *nhc,
				  __u32 be_daddr, __u32 be_gateway, __u32 mtu,
				  bool locked, __u64 expires)
{
	struct path_event *event;
	__u8 family = READ(nhc, nhc_gw_family);

	/* Without an MTU it is a redirect. */
	event = reserve_path(EVENT_PATH_MTU, READ(nhc, nhc_dev), LOSS_RING_FULL);
	if (!event)
		return;
	event->left = expires - bpf_jiffies64();
	event->mtu = mtu;
	event->locked = locked;
	event->family = 4;
	map_ipv4(event->daddr, be_daddr);
	if (family == AF_INET6) {
		event->gateway_family = 6;
		load_kernel(event->gateway, 16, &nhc->nhc_gw.ipv6);
	} else if (family == AF_INET || be_gateway) {
		event->gateway_family = 4;
		map_ipv4(event->gateway, be_gateway ? be_gateway :
						      READ(nhc, nhc_gw.ipv4));
	}
	bpf_get_stack(ctx, event->octets, sizeof(event->octets), 0);
	stream_path(event);
}

/* rt6_update_expires(): a time that has been set is only ever shortened. */
static __always_inline __u64 time_left(struct rt6_info *rt,
				       struct net_device *dev)
{
	struct net *net = READ(dev, nd_net.net);
	__u64 left = READ(net, ipv6.sysctl.ip6_rt_mtu_expires);
	__u64 until = READ(rt, dst.expires) - bpf_jiffies64();

	if (READ(rt, rt6i_flags) & RTF_EXPIRES && until < left)
		return until;
	return left;
}

static __always_inline void path6(void *ctx, struct rt6_info *rt, __u32 mtu)
{
	struct net_device *dev = READ(rt, dst.dev);
	struct path_event *event;

	event = dev ? reserve_path(EVENT_PATH_MTU, dev, LOSS_RING_FULL) : 0;
	if (!event)
		return;
	event->left = time_left(rt, dev);
	event->mtu = mtu;
	event->family = 6;
	load_kernel(event->daddr, 16, &rt->rt6i_dst.addr);
	if (READ(rt, rt6i_src.plen)) {
		event->has_source = 1;
		load_kernel(event->saddr, 16, &rt->rt6i_src.addr);
	}
	if (READ(rt, rt6i_flags) & RTF_GATEWAY) {
		event->gateway_family = 6;
		load_kernel(event->gateway, 16, &rt->rt6i_gateway);
	}
	bpf_get_stack(ctx, event->octets, sizeof(event->octets), 0);
	stream_path(event);
}

int path4_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	path4(ctx, (struct fib_nh_common *)ctx->args[0], ctx->args[1],
	      ctx->args[2], ctx->args[3], ctx->args[4] & 1, ctx->args[5]);
	return 0;
}

int path6_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	path6(ctx, (struct rt6_info *)ctx->args[0], ctx->args[1]);
	return 0;
}

int path4_kprobe(struct pt_regs *ctx)
{
	path4(ctx, (struct fib_nh_common *)PT_REGS_PARM1(ctx),
	      PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx), PT_REGS_PARM4(ctx),
	      PT_REGS_PARM5(ctx) & 1, PT_REGS_PARM6(ctx));
	return 0;
}

int path6_kprobe(struct pt_regs *ctx)
{
	path6(ctx, (struct rt6_info *)PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
	return 0;
}
