/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches whether a route was found for a frag-needed: it tells a message
 * without a way back from one without room. fib:fib_table_lookup, 4.x.
 * Hot: once for each IPv4 route lookup; one load for all others. */

#ifdef HAVE_TP_fib_table_lookup
int fib_table_lookup(struct bpf_raw_tracepoint_args *ctx)
{
	const struct flowi4 *flow =
		(const struct flowi4 *)ctx->args[TP_fib_table_lookup__flp];
	struct here *cpu;

	/* icmp_route_lookup() says in the flow what it is looking for. */
	if (LOAD(flow, __fl_common.flowic_proto) != PROTO_ICMP ||
	    !is_too_big(4, LOAD(flow, uli.icmpt.type),
			LOAD(flow, uli.icmpt.code)))
		return 0;
	cpu = here();
	if (cpu) {
		cpu->route.be_daddr = LOAD(flow, daddr);
		cpu->route.failed = (int)ctx->args[TP_fib_table_lookup__err] < 0;
	}
	return 0;
}
#endif
