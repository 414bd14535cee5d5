"""Stock kernels under QEMU, with this machine's own tree as the guest's root."""
