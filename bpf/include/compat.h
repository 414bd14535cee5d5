/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * How kernel memory is read, and what differs between kernels. The types are
 * those of the running kernel (made from BTF), so only what is not a type is
 * spelled out here.
 */
#ifndef PMTUTRACE_COMPAT_H
#define PMTUTRACE_COMPAT_H

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#ifndef true
#define true 1
#define false 0
#endif

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8
#define ETH_P_TEB 0x6558
#define ETH_P_ERSPAN 0x88be
#define ETH_P_ERSPAN2 0x22eb
#define ETH_HLEN 14
#define VLAN_HLEN 4

/* uapi: linux/rtnetlink.h, linux/icmp.h, linux/icmpv6.h, linux/if_packet.h,
 * asm-generic/errno.h */
#define RTAX_LOCK 1
#define RTAX_MTU 2
#define ICMP_DEST_UNREACH 3
#define ICMP_FRAG_NEEDED 4
#define ICMPV6_PKT_TOOBIG 2
#define PACKET_HOST 0
#define EMSGSIZE 90
#define RTCF_BROADCAST_OR_MULTICAST 0x30000000
#define IP_DF 0x4000
#define IP_MF 0x2000
#define IP_OFFSET 0x1fff
#define IPV6_MIN_MTU 1280
#define IP_MAX_MTU 0xfff0
#define IPSKB_FORWARDED 1
#define IFF_UP 1
#define NETDEV_ALIGN 32UL
#define NO_MTU 0x7fffffff
#define IP6SKB_FORWARDED 2

#define be16(x) ((__u16)__builtin_bswap16(x))
#define be32(x) ((__u32)__builtin_bswap32(x))

/* What was known before is forgotten: the verifier meets one state, not many. */
#define forget() asm volatile("" ::: "memory")

/* An address that stays in a register, where the compiler would compute those
 * of members one by one from what they are part of. */
#define kept(pointer) asm volatile("" : "+r"(pointer))

/*
 * Copy size octets of kernel memory; size is a constant. Where the kernel has
 * bpf_rdonly_cast() (6.2, a35b9af4ec2c) a pointer can be given the type of any
 * struct and be loaded from without a helper call, a fault reading as zero:
 * one that begins with long words is all that is needed. The call is a mark
 * that the loader makes a kfunc call of; the verifier then turns it into
 * nothing. Macros, because what a function stores and loads again until it is
 * part of its caller is a third of what the compiler has to read.
 */
#ifdef RDONLY_CAST
#define rdonly_cast(from)                                                     \
	((void *(*)(const void *, __u32))RDONLY_CAST)((from), TYPEID_pt_regs)
#define load_kernel(to, size, from)                                           \
	(__builtin_memcpy((to), (const __u64 *)rdonly_cast(from), (size)), 0)

/*
 * The same by whole words, to a map or to the ring: there the verifier lets
 * words begin anywhere. On the stack they must be aligned.
 */
#define copy_words(to, words, from)                                           \
	((void)load_kernel((__u64 *)(to), 8 * (words), (from)))

#else
#define load_kernel(to, size, from) bpf_probe_read_kernel(to, size, from)
#define copy_words(to, words, from) bpf_probe_read_kernel(to, 8 * (words), from)
#endif

/* Read through a pointer that the verifier knows nothing of. */
#define READ(pointer, field)                                                  \
	({                                                                    \
		typeof((pointer)->field) _value;                              \
		load_kernel(&_value, sizeof(_value), &(pointer)->field);      \
		_value;                                                       \
	})

/*
 * Read through an argument of a tracepoint. A program of type tp_btf (kernel
 * 5.5, ac4414b5ca47) loads directly, without a helper call for every member.
 */
#ifdef TP_BTF
#define LOAD(pointer, field) ((pointer)->field)
#else
#define LOAD(pointer, field) READ(pointer, field)
#endif

/*
 * The same for a pointer to a struct. Of one that is loaded directly, the
 * verifier asks whether it can be trusted, and searches all of the kernel's
 * types for the answer (btf_nested_type_is_trusted()): milliseconds, on every
 * path. A cast pointer is never trusted, and nothing is searched.
 */
#ifdef RDONLY_CAST
#define LOAD_POINTER(pointer, field) READ(pointer, field)
#else
#define LOAD_POINTER(pointer, field) LOAD(pointer, field)
#endif

/*
 * Two octets of what a protocol keeps in skb->cb. Loaded directly, it is an
 * array of octets, of which the verifier allows no two at once.
 */
#ifdef TP_BTF
#define LOAD_CB(skb, type, member)                                            \
	({                                                                    \
		__u64 _low, _high;                                            \
		_low = (__u8)(skb)->cb[__builtin_offsetof(struct type,        \
							  member)];           \
		asm volatile("" : "+r"(_low));                                \
		_high = (__u8)(skb)->cb[__builtin_offsetof(struct type,       \
							   member) + 1];      \
		_Static_assert(sizeof(((struct type *)0)->member) == 2,       \
			       #member);                                      \
		(__u16)(_low | _high << 8);                                   \
	})
#else
#define LOAD_CB(skb, type, member) READ((struct type *)&(skb)->cb, member)
#endif

/* A bitfield has no address: read the octets around it. */
#define READ_OCTETS(pointer, type, field)                                     \
	({                                                                    \
		__u64 _octets = 0;                                            \
		load_kernel(&_octets, BITFIELD_##type##__##field##_BYTES,     \
			    (const char *)(pointer) +                         \
				    BITFIELD_##type##__##field##_OFFSET);     \
		_octets;                                                      \
	})
#define BITS_OF(octets, type, field)                                          \
	((octets) >> BITFIELD_##type##__##field##_SHIFT &                     \
	 ((1ULL << BITFIELD_##type##__##field##_WIDTH) - 1))
#define READ_BITS(pointer, type, field)                                       \
	BITS_OF(READ_OCTETS(pointer, type, field), type, field)
/* One that lies in the octets of another, if it does. */
#define BITS_BESIDE(octets, pointer, type, other, field)                      \
	(BITFIELD_##type##__##field##_OFFSET ==                               \
			 BITFIELD_##type##__##other##_OFFSET ?                \
		 BITS_OF(octets, type, field) :                               \
		 READ_BITS(pointer, type, field))

static __always_inline struct dst_entry *skb_dst(struct sk_buff *skb)
{
	/* Bit 0 says that no reference is held (SKB_DST_NOREF). */
	return (struct dst_entry *)(LOAD(skb, _skb_refdst) & ~1UL);
}

static __always_inline __u32 netns_inum(struct net_device *dev)
{
	struct net *net = dev ? READ(dev, nd_net.net) : 0;

	return net ? READ(net, ns.inum) : 0;
}

#endif
