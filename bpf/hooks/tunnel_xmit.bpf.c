/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches which device has put the outer header around a packet that dies.
 * iptunnel_xmit() 3.10 on, ip6_local_out() 2.6.25 on; devices of IPsec: theirs.
 * Hot: once for each tunnelled packet; a few loads and five stores. */

/* A device transmits with bottom halves off, and the outer packet is fragmented,
 * or refused, before that call returns: on the same CPU, deeper in its stack. */
static __always_inline void note_maker(__u64 skb, struct net_device *dev,
				       __u64 stack, __u32 saddr, __u32 daddr)
{
	struct here *cpu = here();

	if (cpu)
		cpu->made = (struct made){ skb, dev, stack, saddr, daddr };
}

/* An address as one number, which is not zero; IPv4 ones as they are mapped. */
static __always_inline __u32 folded(const __u32 *octets)
{
	return (octets[0] ^ octets[1] ^ octets[2] ^ octets[3]) | 1;
}

static __always_inline __u32 folded4(__u32 be_address)
{
	return (be32(0x0000ffff) ^ be_address) | 1;
}

static __always_inline bool was_forwarded(struct sk_buff *skb, bool ipv6)
{
	if (ipv6) {
		struct inet6_skb_parm *cb = (struct inet6_skb_parm *)&skb->cb;

		return READ(cb, flags) & IP6SKB_FORWARDED;
	} else {
		struct inet_skb_parm *cb = (struct inet_skb_parm *)&skb->cb;

		return READ(cb, flags) & IPSKB_FORWARDED;
	}
}

/* The protocols of outer headers. */
static __always_inline bool carries(__u8 proto)
{
	return proto == PROTO_UDP || proto == PROTO_GRE || proto == PROTO_ESP ||
	       proto == PROTO_IPIP || proto == PROTO_IPV6 ||
	       proto == PROTO_AH || proto == PROTO_L2TP;
}

static __always_inline bool is_by_ipsec(const struct flow_key *key, __u8 proto)
{
	return proto == PROTO_ESP || proto == PROTO_AH ||
	       (proto == PROTO_UDP && (key->be_sport == be16(PORT_ESP) ||
				       key->be_dport == be16(PORT_ESP)));
}

#define STACK_SIZE 16384

/* The function that made the last outer header on this CPU has not returned:
 * what other packets die of is less deep, or on another stack. */
static __always_inline bool is_in_tunnel(const struct here *cpu, __u64 stack)
{
	return cpu->made.stack - stack < STACK_SIZE;
}

/*
 * The device that made the outermost header of this packet, whose flow is in
 * key, while such a function is under way; 0 if that is not certain. It is the
 * same packet, or a segment of it: segments have addresses of their own, but
 * stay marked as encapsulated. Addresses of packets are used again, so those of
 * its header count: the same endpoints, or, where they were not known yet, what
 * IPsec makes. It is none in transit.
 */
static __always_inline struct net_device *
maker_of(struct sk_buff *skb, const struct flow_key *key, bool ipv6)
{
	const __u8 *saddr = key->outer_family ? key->outer_saddr : key->saddr;
	const __u8 *daddr = key->outer_family ? key->outer_daddr : key->daddr;
	__u8 proto = key->outer_family ? key->outer_proto : key->proto;
	struct here *cpu = here();
	const struct made *made = &cpu->made;

	if (!cpu || !carries(proto) || was_forwarded(skb, ipv6))
		return 0;
	if (made->skb != (__u64)skb && !READ_BITS(skb, sk_buff, encapsulation))
		return 0;
	if (made->daddr ? made->daddr != folded((const __u32 *)daddr) ||
				  made->saddr != folded((const __u32 *)saddr) :
			  !is_by_ipsec(key, proto))
		return 0;
	return made->dev;
}

/* iptunnel_xmit(sk, rt, skb, src, dst, …): the IPv4 header is about to be made,
 * and the kernel itself takes skb->dev for the tunnel. */
int tunnel4_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx->args[2];

	note_maker((__u64)skb, LOAD_POINTER(skb, dev), (__u64)ctx,
		   folded4(ctx->args[3]), folded4(ctx->args[4]));
	return 0;
}

int tunnel4_kprobe(struct pt_regs *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)PT_REGS_PARM3(ctx);

	note_maker((__u64)skb, READ(skb, dev), PT_REGS_SP(ctx),
		   folded4(PT_REGS_PARM4(ctx)), folded4(PT_REGS_PARM5(ctx)));
	return 0;
}

/* ip6_local_out(net, sk, skb): the IPv6 header is there. What fits everywhere is
 * never refused, and a packet of a socket has no device yet. */
static __always_inline void made6(struct sk_buff *skb, struct net_device *dev,
				  __u64 stack)
{
	__u32 ends[8] = {};

	load_kernel(ends, sizeof(ends),
		    READ(skb, head) + READ(skb, network_header) + 8);
	note_maker((__u64)skb, dev, stack, folded(ends), folded(ends + 4));
}

int tunnel6_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx->args[2];
	struct net_device *dev = LOAD_POINTER(skb, dev);

	if (dev && LOAD(skb, len) > IPV6_MIN_MTU)
		made6(skb, dev, (__u64)ctx);
	return 0;
}

int tunnel6_kprobe(struct pt_regs *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)PT_REGS_PARM3(ctx);
	struct net_device *dev = READ(skb, dev);

	if (dev && READ(skb, len) > IPV6_MIN_MTU)
		made6(skb, dev, PT_REGS_SP(ctx));
	return 0;
}

/* A device's own ndo_start_xmit(skb, dev). */
int tunnel_device_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	note_maker(ctx->args[0], (struct net_device *)ctx->args[1], (__u64)ctx,
		   0, 0);
	return 0;
}

int tunnel_device_kprobe(struct pt_regs *ctx)
{
	note_maker(PT_REGS_PARM1(ctx), (struct net_device *)PT_REGS_PARM2(ctx),
		   PT_REGS_SP(ctx), 0, 0);
	return 0;
}
