/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches modules as they come and go, so that user space looks at once for the
 * functions that they bring. module:module_load, module:module_free, 2.6.31 on.
 * Cold: once for each module. */

static __always_inline void moved(void)
{
	__sync_fetch_and_add(the_module_moves(), 1);
}

#ifdef HAVE_TP_module_load
int module_load(struct bpf_raw_tracepoint_args *ctx)
{
	moved();
	return 0;
}
#endif

#ifdef HAVE_TP_module_free
int module_free(struct bpf_raw_tracepoint_args *ctx)
{
	moved();
	return 0;
}
#endif
