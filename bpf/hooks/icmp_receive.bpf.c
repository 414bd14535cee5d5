/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches frag-needed and packet-too-big that arrive, once the kernel is done
 * with them: the end of icmp_unreach(), icmpv6_notify(), 4.x on. Cold. There
 * the packet that is quoted lies in the linear part, if anybody looked at it. */

#define RECEIVED_PER_SECOND 1000 /* of one CPU; --all: no limit */

/* A flood of messages must not crowd the drops out of the ring. */
static __always_inline bool may_tell(void)
{
	struct config *cfg = the_settings();
	struct here *cpu = here();
	struct received_window *w = &cpu->received;
	__u64 now = bpf_jiffies64();

	if (!cpu || cfg->every)
		return true;
	if (now - w->since >= cfg->second) {
		w->since = now;
		w->number = 0;
	}
	return w->number++ < RECEIVED_PER_SECOND;
}

static __always_inline void received(struct sk_buff *skb, bool ipv6)
{
	struct packet p = packet_of(skb);
	struct net_device *dev = READ(skb, dev);
	__u64 at = READ(skb, transport_header), size;
	struct path_event *event;
	struct {
		__u8 type, code;
		__u16 be_check, be_unused, be_mtu;
	} icmp;

	if (peek(&p, at, &icmp, sizeof(icmp)) ||
	    !is_too_big(ipv6 ? 6 : 4, icmp.type, icmp.code))
		return;
	/* Before they are numbered: others' messages are neither told nor lost. */
	if (!is_watched(netns_inum(dev)))
		return;
	if (!may_tell()) {
		lose(LOSS_RECEIVED);
		return;
	}
	event = reserve_path(EVENT_ICMP_RECEIVED, dev, LOSS_RECEIVED);
	if (!event)
		return;
	event->family = ipv6 ? 6 : 4;
	event->mtu = be16(icmp.be_mtu);
	if (ipv6) {
		event->mtu |= (__u32)be16(icmp.be_unused) << 16;
		load_kernel(event->saddr, 16, p.head + p.at + 8);
		load_kernel(event->daddr, 16, p.head + p.at + 24);
	} else {
		__u32 be_addresses[2] = {};

		load_kernel(be_addresses, 8, p.head + p.at + 12);
		map_ipv4(event->saddr, be_addresses[0]);
		map_ipv4(event->daddr, be_addresses[1]);
	}
	at += sizeof(icmp);
	size = p.end > at ? p.end - at : 0;
	if (size > sizeof(event->octets))
		size = sizeof(event->octets);
	event->caplen = size;
	load_kernel(event->octets, sizeof(event->octets), p.head + at);
	stream_path(event);
}

int receive4_fexit(struct bpf_raw_tracepoint_args *ctx)
{
	received((struct sk_buff *)ctx->args[0], false);
	return 0;
}

int receive6_fexit(struct bpf_raw_tracepoint_args *ctx)
{
	received((struct sk_buff *)ctx->args[0], true);
	return 0;
}

/* At the end of a function a kretprobe has no arguments any more. */
int receive_enter_kprobe(struct pt_regs *ctx)
{
	struct here *cpu = here();

	if (cpu)
		cpu->receiving = PT_REGS_PARM1(ctx);
	return 0;
}

static __always_inline void received_entered(bool ipv6)
{
	struct here *cpu = here();
	__u64 skb = cpu ? cpu->receiving : 0;

	if (!skb)
		return;
	cpu->receiving = 0;
	received((struct sk_buff *)skb, ipv6);
}

int receive4_kretprobe(struct pt_regs *ctx)
{
	received_entered(false);
	return 0;
}

int receive6_kretprobe(struct pt_regs *ctx)
{
	received_entered(true);
	return 0;
}
