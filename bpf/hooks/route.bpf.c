/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches whether the last route looked up on this CPU was found: it tells a
 * message without a way back from one without room. fib:fib_table_lookup, 4.x.
 * Hot: once for each IPv4 route lookup, three loads and two stores. */

#ifndef WITHOUT_MESSAGES
#ifdef HAVE_TP_fib_table_lookup
int fib_table_lookup(struct bpf_raw_tracepoint_args *ctx)
{
	const struct flowi4 *flow =
		(const struct flowi4 *)ctx->args[TP_fib_table_lookup__flp];
	int zero = 0;
	struct lookup *last = lookups.lookup(&zero);

	if (last) {
		last->be_daddr = LOAD(flow, daddr);
		last->failed = (int)ctx->args[TP_fib_table_lookup__err] < 0;
	}
	return 0;
}
#endif
#endif
