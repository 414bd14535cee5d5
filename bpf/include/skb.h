/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the kernel's own tests see when they refuse a packet: the MTU in force,
 * and the reasons for which __icmp_send() and icmp6_send() give up. Each
 * function names the kernel function that it follows.
 */
#ifndef PMTUTRACE_SKB_H
#define PMTUTRACE_SKB_H

/* The route's own MTU and whether it is locked: neighbours in dst_metrics. */
struct mtu_metric {
	__u32 lock;
	__u32 mtu;
};
_Static_assert(RTAX_LOCK == 1 && RTAX_MTU == 2, "mtu_metric");

static __always_inline struct mtu_metric mtu_metric(struct dst_entry *dst)
{
	/* The two low bits are DST_METRICS_READ_ONLY and _REFCOUNTED. */
	const void *metrics = (const void *)(READ(dst, _metrics) & ~3UL);
	struct mtu_metric metric = {};

	if (metrics)
		load_kernel(&metric, sizeof(metric), metrics);
	metric.lock = metric.lock >> RTAX_MTU & 1;
	return metric;
}

static __always_inline bool forwards_by_pmtu(struct net_device *dev)
{
	struct net *net = READ(dev, nd_net.net);

	return READ(net, ipv4.sysctl_ip_fwd_use_pmtu);
}

/* ip_dst_mtu_maybe_forward(); dev is that of the route. */
static __always_inline __u64 mtu_ipv4(struct dst_entry *dst,
				      struct net_device *dev, bool forwarding)
{
	struct rtable *rt = (struct rtable *)dst;
	struct mtu_metric metric = mtu_metric(dst);
	__u64 learned = READ_OCTETS(rt, rtable, rt_pmtu);
	__u64 mtu = BITS_OF(learned, rtable, rt_pmtu);
	bool locked = metric.lock ||
		      BITS_BESIDE(learned, rt, rtable, rt_pmtu, rt_mtu_locked);

	if (!mtu || (forwarding && !locked && !forwards_by_pmtu(dev)) ||
	    (long)(bpf_jiffies64() - READ(dst, expires)) >= 0) {
		mtu = metric.mtu;
		if (!mtu) {
			mtu = READ(dev, mtu);
			if (locked && READ(rt, rt_uses_gateway) && mtu > 576)
				mtu = 576;
		}
	}
	return mtu < IP_MAX_MTU ? mtu : IP_MAX_MTU;
}

/* ip6_dst_mtu_maybe_forward(); dev is that of the route. */
static __always_inline __u64 mtu_ipv6(struct dst_entry *dst,
				      struct net_device *dev, bool forwarding)
{
	struct mtu_metric metric = mtu_metric(dst);
	struct inet6_dev *idev;
	__u64 mtu = !forwarding || metric.lock ? metric.mtu : 0;

	if (!mtu) {
		mtu = IPV6_MIN_MTU;
		idev = READ(dev, ip6_ptr);
		if (idev)
			mtu = READ(idev, cnf.mtu6);
	}
	return mtu > IPV6_MIN_MTU ? mtu : IPV6_MIN_MTU;
}

static __always_inline __u16 gso_size(struct sk_buff *skb)
{
	struct skb_shared_info *shared = (struct skb_shared_info *)(
		(unsigned long)READ(skb, head) + READ(skb, end));

	return READ(shared, gso_size);
}

/* Where the network header is, and how far the linear part reaches. */
static __always_inline struct packet skb_packet(struct sk_buff *skb)
{
	struct packet p = {
		.head = LOAD(skb, head),
		.at = LOAD(skb, network_header),
		.end = LOAD(skb, tail),
		.inner = LOAD(skb, inner_network_header),
	};
	return p;
}

/* Octets from the network header to the end, wherever data points to now. */
static __always_inline __u32 network_length(struct sk_buff *skb,
					    const struct packet *p)
{
	__u32 data = (unsigned long)LOAD(skb, data) - (unsigned long)p->head;

	return LOAD(skb, len) - (p->at - data);
}

/* is_skb_forwardable(), for a device of that kind with that MTU */
static __always_inline bool is_forwardable(struct sk_buff *skb,
					   struct net_device *dev, __u32 mtu)
{
	return LOAD(skb, len) <= mtu + READ(dev, hard_header_len) + VLAN_HLEN ||
	       gso_size(skb);
}

/* packet_length() of Open vSwitch: one VLAN tag in the frame is free, unless
 * there is another beside it. */
static __always_inline __u32 frame_length(struct sk_buff *skb,
					  struct net_device *dev)
{
	__u32 length = LOAD(skb, len) - READ(dev, hard_header_len);
	__u16 type = be16(LOAD(skb, protocol));

	if ((type == ETH_P_8021Q || type == ETH_P_8021AD) &&
	    !LOAD(skb, vlan_tci))
		length -= VLAN_HLEN;
	return length;
}

/*
 * The MTU of the device at the other end of a veth, to which struct veth_priv
 * points first of all. One that is down takes nothing whatever its size, and
 * of no other kind is the other end known: no limit then.
 */
static __always_inline __u32 mtu_of_receiver(struct net_device *dev)
{
	struct rtnl_link_ops *ops = READ(dev, rtnl_link_ops);
	struct net_device *peer = 0;
	char kind[5] = {};

	if (ops)
		load_kernel(kind, sizeof(kind), READ(ops, kind));
	if (kind[0] != 'v' || kind[1] != 'e' || kind[2] != 't' ||
	    kind[3] != 'h' || kind[4])
		return NO_MTU;
	load_kernel(&peer, sizeof(peer),
		    (const char *)dev + ((sizeof(*dev) + NETDEV_ALIGN - 1) &
					 ~(NETDEV_ALIGN - 1)));
	return peer && READ(peer, flags) & IFF_UP ? READ(peer, mtu) : NO_MTU;
}

/* An ICMP error, or a type that the kernel does not know: icmp_pointers[] */
static __always_inline bool icmp_is_error(__u8 type)
{
	return type == 3 || type == 4 || type == 5 || type == 11 ||
	       type == 12 || type > 18;
}

/* What is known of the route for the reply. */
enum way_back {
	WAY_BACK_UNSEEN, /* nobody watches routes */
	WAY_BACK_NOT_ASKED,
	WAY_BACK_NONE,
	WAY_BACK_FOUND,
};

/*
 * Why __icmp_send() would send nothing for this packet, its tests in its
 * order. What cannot be seen on the packet is told apart by elimination: the
 * limits do not apply to type 3 code 4, the ICMP socket is busy only while
 * another message is being sent on this CPU, options are echoed before the
 * route is looked up, and with a route what is left is the room for the quote.
 */
static __always_inline enum cause
why_not_ipv4(struct sk_buff *skb, const struct packet *p, bool nested,
	     enum way_back way)
{
	struct dst_entry *dst = skb_dst(skb);
	struct rtable *rt = (struct rtable *)dst;
	struct iphdr ip;
	__u8 type;

	if (!dst)
		return CAUSE_NO_ROUTE_ON_SKB;
	if (!READ(dst, dev) && !LOAD_POINTER(skb, dev))
		return CAUSE_NO_DEVICE;
	if (peek(p, p->at, &ip, sizeof(ip)))
		return CAUSE_BAD_HEADER;
	if (READ_BITS(skb, sk_buff, pkt_type) != PACKET_HOST)
		return CAUSE_NOT_FOR_THIS_HOST;
	if (READ(rt, rt_flags) & RTCF_BROADCAST_OR_MULTICAST)
		return CAUSE_BROADCAST_OR_MULTICAST;
	if (be16(ip.frag_off) & IP_OFFSET)
		return CAUSE_NON_FIRST_FRAGMENT;
	if (ip.protocol == PROTO_ICMP) {
		if (peek(p, p->at + ip.ihl * 4, &type, 1) || icmp_is_error(type))
			return CAUSE_ICMP_ERROR_INSIDE;
	}
	if (nested)
		return CAUSE_ICMP_SOCKET_BUSY;
	switch (way) {
	case WAY_BACK_NONE:
		return CAUSE_NO_ROUTE_BACK;
	case WAY_BACK_NOT_ASKED:
		return ip.ihl > 5 ? CAUSE_OPTIONS_INVALID : CAUSE_UNKNOWN;
	case WAY_BACK_FOUND:
		return CAUSE_NO_ROOM;
	case WAY_BACK_UNSEEN:
		break;
	}
	return ip.ihl > 5 ? CAUSE_UNKNOWN : CAUSE_NO_ROUTE_BACK;
}

static __always_inline bool limits_too_big(struct net_device *dev)
{
	struct net *net = READ(dev, nd_net.net);

	return READ(net, ipv6.sysctl.icmpv6_ratemask[0]) >> ICMPV6_PKT_TOOBIG & 1;
}

/* The same for icmp6_send() with packet-too-big, which may answer multicast.
 * The flow has been read: of a packet that carries another, what is above the
 * innermost header says nothing of this one, which is no ICMP then. */
static __always_inline enum cause why_not_ipv6(struct sk_buff *skb,
					      const struct packet *p,
					      const struct upper *up,
					      const struct flow_key *key,
					      bool nested, bool limits_seen)
{
	struct net_device *dev = LOAD_POINTER(skb, dev);
	const __u32 *saddr = (const __u32 *)(key->outer_family ?
						     key->outer_saddr :
						     key->saddr);
	__u8 type;

	if (!dev)
		return CAUSE_NO_DEVICE;
	if (!key->family)
		return CAUSE_BAD_HEADER;
	if ((be32(saddr[0]) >> 24) == 0xff ||
	    !(saddr[0] | saddr[1] | saddr[2] | saddr[3]))
		return CAUSE_BROADCAST_OR_MULTICAST;
	/* is_ineligible(): errors and redirects; a later fragment may pass */
	if (!key->outer_family && up->proto == PROTO_ICMPV6 && up->first &&
	    (peek(p, up->at, &type, 1) || type < 128 || type == 137))
		return CAUSE_ICMP_ERROR_INSIDE;
	if (nested)
		return CAUSE_ICMP_SOCKET_BUSY;
	return limits_too_big(dev) && !limits_seen ? CAUSE_UNKNOWN :
						     CAUSE_NO_ROUTE_BACK;
}

static __always_inline struct packet packet_of(struct sk_buff *skb)
{
	struct packet p = {
		.head = READ(skb, head),
		.at = READ(skb, network_header),
		.end = READ(skb, tail),
		.inner = READ(skb, inner_network_header),
	};
	return p;
}

#endif
