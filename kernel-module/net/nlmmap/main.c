// SPDX-License-Identifier: GPL-2.0
/*
 * nlmmap: netlink messages in memory that user space maps
 *
 * Start with include/uapi/linux/nlmmap.h, the contract, and with ring.h.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/netlink.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>

#include "attach.h"
#include "control.h"
#include "drain.h"
#include "group.h"
#include "override.h"
#include "plain.h"
#include "socket.h"

/* As the Kconfig entry in a kernel tree says it. */
#if !defined(CONFIG_MMU) || !defined(CONFIG_64BIT) || \
	defined(CONFIG_ARCH_HAS_CPU_CACHE_ALIASING)
#error "nlmmap needs an MMU, 64 bits, and caches that do not alias"
#endif

unsigned int nlmmap_net_id;

static int nlmmap_family = NETLINK_NLMMAP;
module_param_named(family, nlmmap_family, int, 0444);
MODULE_PARM_DESC(family, "netlink protocol number, 1 to 31 (default 30)");

module_param_named(max_ring_bytes, nlmmap_max_ring_bytes, uint, 0644);
MODULE_PARM_DESC(max_ring_bytes, "largest ring that may be set up, bytes (default 64 MiB)");

module_param_named(max_members, nlmmap_max_members, uint, 0644);
MODULE_PARM_DESC(max_members, "most rings that may join one group (default 256)");

module_param_named(plain_ring_bytes, nlmmap_plain_ring_bytes, uint, 0644);
MODULE_PARM_DESC(plain_ring_bytes,
		 "ring before a group's listeners without a ring, bytes (default 1 MiB)");

module_param_named(attach_unprivileged, nlmmap_attach_unprivileged, bool, 0644);
MODULE_PARM_DESC(attach_unprivileged,
		 "let users without CAP_NET_ADMIN put rings under sockets of other families (default N)");

static int __net_init nlmmap_net_init(struct net *net)
{
	struct nlmmap_net *nn = net_generic(net, nlmmap_net_id);
	struct netlink_kernel_cfg cfg = {
		.groups	= NLMMAP_GROUPS,
		/* Who may hear a group is decided for each, in its bind. */
		.flags	= NL_CFG_F_NONROOT_RECV,
		.input	= nlmmap_control_input,
		.bind	= nlmmap_group_bind,
		.unbind	= nlmmap_group_unbind,
	};

	nn->sock = netlink_kernel_create(net, nlmmap_family, &cfg);
	if (nn->sock)
		return 0;
	/* Only at load can somebody else have the number. */
	return net_eq(net, &init_net) ? -EADDRINUSE : -ENOMEM;
}

static void __net_exit nlmmap_net_exit(struct net *net)
{
	struct nlmmap_net *nn = net_generic(net, nlmmap_net_id);

	nlmmap_group_net_exit(net);
	netlink_kernel_release(nn->sock);
}

static struct pernet_operations nlmmap_net_ops = {
	.init	= nlmmap_net_init,
	.exit	= nlmmap_net_exit,
	.id	= &nlmmap_net_id,
	.size	= sizeof(struct nlmmap_net),
};

static int __init nlmmap_init(void)
{
	int err;

	if (nlmmap_family < 1 || nlmmap_family >= MAX_LINKS) {
		pr_err("family=%d: a netlink protocol number is 1 to %d\n",
		       nlmmap_family, MAX_LINKS - 1);
		return -EINVAL;
	}
	/* The core has it without a kernel socket, and would take us for one more
	 * of its users: without our rules of who may hear what.
	 */
	if (nlmmap_family == NETLINK_USERSOCK) {
		pr_err("family=%d: netlink protocol %d is taken (NETLINK_USERSOCK)\n",
		       nlmmap_family, nlmmap_family);
		return -EADDRINUSE;
	}
	err = nlmmap_override_init();
	if (err)
		return err;
	err = nlmmap_socket_init();
	if (err)
		return err;
	err = nlmmap_drain_init();
	if (err)
		goto err_socket_exit;
	err = nlmmap_plain_init();
	if (err)
		goto err_drain_exit;
	err = register_pernet_subsys(&nlmmap_net_ops);
	if (err) {
		if (err == -EADDRINUSE)
			pr_err("netlink protocol %d is taken, or there is no memory: load with family=N, a free number (see /proc/net/protocols and /proc/net/netlink)\n",
			       nlmmap_family);
		goto err_plain_exit;
	}
	return 0;

err_plain_exit:
	nlmmap_listen_exit();
	nlmmap_plain_exit();
err_drain_exit:
	nlmmap_drain_exit();
err_socket_exit:
	nlmmap_socket_exit();
	return err;
}

static void __exit nlmmap_exit(void)
{
	unregister_pernet_subsys(&nlmmap_net_ops);
	nlmmap_listen_exit();
	nlmmap_plain_exit();
	nlmmap_drain_exit();
	nlmmap_socket_exit();
}

module_init(nlmmap_init);
module_exit(nlmmap_exit);

MODULE_DESCRIPTION("Netlink messages in memory that user space maps");
MODULE_LICENSE("GPL");
