/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches EMSGSIZE for a socket of this host, of whose packet nothing is freed.
 * ip_local_error(), ipv6_local_error(), and what IPsec calls before; 4.x.
 * Cold: runs once for each send() that is refused for its size. */

#define SOCK_RAW 3
#define IPPROTO_RAW 255
/* uapi: linux/in.h, linux/in6.h; the same numbers for both. */
#define PMTUDISC_DO 2
#define PMTUDISC_PROBE 3
#define PMTUDISC_OMIT 5

/* ip_sk_ignore_df(), ip6_sk_ignore_df(): such a socket's packets are split, and
 * refused only if IP has no room for their length, whatever the path. */
static __always_inline bool may_be_split(__u8 pmtudisc)
{
	return pmtudisc < PMTUDISC_DO || pmtudisc == PMTUDISC_OMIT;
}

/* A packet with its header, from user space, is never split. */
static __always_inline bool has_header(struct config *cfg, struct sock *sk,
				       __u64 location)
{
	__u64 site = location ? site_of(cfg, location) : unlisted(cfg);

	return site & SITE_UNLISTED ?
		       READ(sk, sk_protocol) == IPPROTO_RAW :
		       SITE_CHECK(site) == CHECK_HEADER_INCLUDED;
}

static __always_inline bool has_ports(__u8 proto)
{
	return proto == PROTO_TCP || proto == PROTO_UDP ||
	       proto == PROTO_UDPLITE || proto == PROTO_SCTP ||
	       proto == PROTO_DCCP;
}

static __always_inline void set_ports(struct sock *sk, struct flow_key *key,
				      __u16 be_sport, __u16 be_dport)
{
	if (READ(sk, sk_type) == SOCK_RAW) /* there they are something else */
		return;
	key->be_sport = be_sport;
	if (be_sport)
		key->has_ports |= PORTS_SOURCE;
	if (!has_ports(key->proto))
		return;
	key->be_dport = be_dport;
	if (be_dport)
		key->has_ports |= PORTS_DESTINATION;
}

/* The device of the route, where the socket holds it: while it collects a
 * packet, or because it is connected to this very address. */
static __always_inline void find_device(struct sock *sk, struct refusal *r,
					bool connected)
{
	struct inet_sock *inet = (struct inet_sock *)sk;

	r->dst = READ(inet, cork.base.dst);
	if (!r->dst && connected)
		r->dst = READ(sk, sk_dst_cache);
	r->out = r->dst ? READ(r->dst, dev) : 0;
	if (r->out)
		r->key.ifindex = READ(r->out, ifindex);
	else if (!r->key.ifindex)
		r->key.ifindex = READ(sk, __sk_common.skc_bound_dev_if);
}

static __always_inline void report_local(struct refusal *r, struct config *cfg)
{
	r->key.site = r->location ? SITE_IPV4(site_of(cfg, r->location)) :
				    cfg->site_other;
	r->key.verdict = VERDICT_LOCAL;
	r->skb = 0;
	r->length = 0;
	r->reason = 0;
	call_report(r);
}

static __always_inline bool begin_local(struct sock *sk, struct refusal *r)
{
	struct net *net = READ(sk, __sk_common.skc_net.net);

	__builtin_memset(&r->key, 0, sizeof(r->key));
	r->flags = 0;
	r->mark = READ(sk, sk_mark);
	r->key.netns = READ(net, ns.inum);
	r->key.proto = READ(sk, sk_protocol);
	return is_watched(r->key.netns);
}

static __always_inline void refused4(struct sock *sk, struct refusal *r,
				     struct config *cfg, __u32 be_daddr,
				     __u16 be_dport)
{
	struct inet_sock *inet = (struct inet_sock *)sk;
	__u8 pmtudisc = READ(inet, pmtudisc);
	bool whole = has_header(cfg, sk, r->location);
	bool connected = READ(sk, __sk_common.skc_daddr) == be_daddr;

	if ((may_be_split(pmtudisc) && !whole) || r->mtu + 60 > IP_MAX_MTU ||
	    !begin_local(sk, r))
		return;
	r->key.family = 4;
	map_ipv4(r->key.saddr, READ(inet, inet_saddr));
	map_ipv4(r->key.daddr, be_daddr);
	/* The port is that of the connection, wherever this one was to go. */
	set_ports(sk, &r->key, READ(inet, inet_sport), connected ? be_dport : 0);
	find_device(sk, r, connected);
	forget();
	if (!whole && (pmtudisc == PMTUDISC_DO || pmtudisc == PMTUDISC_PROBE))
		r->flags = FLAG_DF;
	report_local(r, cfg);
}

static __always_inline __u8 pmtudisc_ipv6(struct ipv6_pinfo *pinfo)
{
#ifdef BITFIELD_ipv6_pinfo__pmtudisc_BYTES /* until 6.6 */
	return READ_BITS(pinfo, ipv6_pinfo, pmtudisc);
#else
	return READ(pinfo, pmtudisc);
#endif
}

static __always_inline void refused6(struct sock *sk, struct refusal *r,
				     struct config *cfg, struct flowi6 *flow,
				     bool dontfrag)
{
	struct inet_sock *inet = (struct inet_sock *)sk;
	__u64 daddr[2], peer[2] = {};

	if ((may_be_split(pmtudisc_ipv6(READ(inet, pinet6))) && !dontfrag &&
	     !has_header(cfg, sk, r->location)) ||
	    r->mtu + 40 > 0xffff || !begin_local(sk, r))
		return;
	r->key.family = 6;
	load_kernel(r->key.saddr, 16, &flow->saddr);
	load_kernel(r->key.daddr, 16, &flow->daddr);
	r->key.ifindex = READ(flow, __fl_common.flowic_oif);
	set_ports(sk, &r->key, READ(flow, uli.ports.sport),
		  READ(flow, uli.ports.dport));
	__builtin_memcpy(daddr, r->key.daddr, sizeof(daddr));
	load_kernel(peer, sizeof(peer), &sk->__sk_common.skc_v6_daddr);
	find_device(sk, r, peer[0] == daddr[0] && peer[1] == daddr[1]);
	forget();
	report_local(r, cfg);
}

/* What this context has said already of the packet that it is refusing. */
static __always_inline __u64 take_remark(void)
{
	__u64 context = context_key(), *remark = remarks.lookup(&context);
	__u64 taken = remark ? *remark : 0;

	if (remark)
		remarks.delete(&context);
	return taken;
}

static __always_inline void remark(__u64 what)
{
	__u64 context = context_key();

	remarks.update(&context, &what);
}

static __always_inline void local4(struct sock *sk, int error, __u32 be_daddr,
				   __u16 be_dport, __u32 mtu, __u64 location)
{
	struct here *cpu;
	struct refusal *r;

	/* IPsec has a packet, and frees it: it is counted then. */
	if (error != EMSGSIZE || take_remark() == REMARK_HAS_PACKET)
		return;
	cpu = here();
	r = enter(cpu);
	if (!r)
		return;
	r->mtu = mtu;
	r->location = location;
	refused4(sk, r, the_settings(), be_daddr, be_dport);
	leave(cpu);
}

static __always_inline void local6(struct sock *sk, int error,
				   struct flowi6 *flow, __u32 mtu,
				   __u64 location)
{
	__u64 said = take_remark();
	struct here *cpu;
	struct refusal *r;

	if (error != EMSGSIZE || said == REMARK_HAS_PACKET)
		return;
	cpu = here();
	r = enter(cpu);
	if (!r)
		return;
	r->mtu = mtu;
	r->location = location;
	refused6(sk, r, the_settings(), flow, said == REMARK_DONTFRAG);
	leave(cpu);
}

/* The packet is freed next: what its sender was told is known then. */
static __always_inline void local_packet(__u64 skb, __u32 mtu)
{
	struct news *news = news_about(skb);

	if (news) {
		news->verdict = VERDICT_LOCAL;
		news->mtu = mtu;
	}
	remark(REMARK_HAS_PACKET);
}

/* Where the function was called: the first thing on its stack. */
static __always_inline __u64 caller(struct pt_regs *ctx)
{
	__u64 location = 0;

	bpf_probe_read_kernel(&location, sizeof(location),
			      (void *)PT_REGS_SP(ctx));
	return location;
}

int local_error4_kprobe(struct pt_regs *ctx)
{
	local4((struct sock *)PT_REGS_PARM1(ctx), (int)PT_REGS_PARM2(ctx),
	       PT_REGS_PARM3(ctx), PT_REGS_PARM4(ctx), PT_REGS_PARM5(ctx),
	       caller(ctx));
	return 0;
}

int local_error6_kprobe(struct pt_regs *ctx)
{
	local6((struct sock *)PT_REGS_PARM1(ctx), (int)PT_REGS_PARM2(ctx),
	       (struct flowi6 *)PT_REGS_PARM3(ctx), PT_REGS_PARM4(ctx),
	       caller(ctx));
	return 0;
}

/* ipv6_local_rxpmtu(): called before because the socket wants no fragments. */
int local_rxpmtu_kprobe(struct pt_regs *ctx)
{
	remark(REMARK_DONTFRAG);
	return 0;
}

int local_packet_kprobe(struct pt_regs *ctx)
{
	local_packet(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
	return 0;
}

int local_error4_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	local4((struct sock *)ctx->args[0], (int)ctx->args[1], ctx->args[2],
	       ctx->args[3], ctx->args[4], 0);
	return 0;
}

int local_error6_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	local6((struct sock *)ctx->args[0], (int)ctx->args[1],
	       (struct flowi6 *)ctx->args[2], ctx->args[3], 0);
	return 0;
}

int local_rxpmtu_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	remark(REMARK_DONTFRAG);
	return 0;
}

int local_packet_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	local_packet(ctx->args[0], ctx->args[1]);
	return 0;
}
