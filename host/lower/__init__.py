"""From a compressed network to an artifact: import, fuse, choose kernels, compile, pack, link."""
