// SPDX-License-Identifier: GPL-2.0
/*
 * How a socket comes to have our operations on a stock kernel
 *
 * A stock kernel offers a netlink family no hook at a socket's mmap, poll or
 * release. So a socket that was set up gets a copy of netlink's operations with
 * those replaced. There is one such table, read-only once the module is loaded.
 *
 * The change is one store of a pointer under nlmmap_setup_mutex, in the context
 * of the socket's own sender; the core reads the pointer once for each call.
 * A call that began with the old table ends with it: poll then misses the ring
 * and mmap answers ENODEV, as if they had come a moment earlier.
 *
 * The table's owner is this module. The core takes no reference for a change of
 * operations, so we take one, and drops the owner's after release: hence one
 * for each socket.
 *
 * In a kernel with the patch series this file's work is done by hooks.
 */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/netlink.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include "attach.h"
#include "override.h"
#include "socket.h"

static struct proto_ops nlmmap_ops __ro_after_init;
static const struct proto_ops *nlmmap_base __ro_after_init;
static void (*nlmmap_default_data_ready)(struct sock *sk) __ro_after_init;
static void (*nlmmap_default_error_report)(struct sock *sk) __ro_after_init;

static struct nlmmap_socket *nlmmap_socket_of(const struct socket *sock)
{
	/* Pairs with the smp_store_release() in nlmmap_override(): the core read
	 * our operations before it called one, so the hash has the socket.
	 */
	smp_rmb();
	return nlmmap_socket_find(sock->sk);
}

static int nlmmap_ops_mmap(struct file *file, struct socket *sock,
			   struct vm_area_struct *vma)
{
	return nlmmap_socket_mmap(nlmmap_socket_of(sock), vma);
}

static __poll_t nlmmap_ops_poll(struct file *file, struct socket *sock,
				struct poll_table_struct *wait)
{
	/* First netlink's own: it joins the socket's wait queue, the only one.
	 * The barrier in sock_poll_wait() stands between that and our look at
	 * the ring, which arms it.
	 */
	__poll_t mask = nlmmap_base->poll(file, sock, wait);

	return nlmmap_socket_poll(nlmmap_socket_of(sock), mask);
}

static int nlmmap_ops_sendmsg(struct socket *sock, struct msghdr *msg, size_t len)
{
	struct nlmmap_socket *socket = nlmmap_socket_of(sock);

	if (socket->attached)
		return nlmmap_attached_sendmsg(socket->attached, msg, len);
	return nlmmap_base->sendmsg(sock, msg, len);
}

static int nlmmap_ops_recvmsg(struct socket *sock, struct msghdr *msg, size_t len,
			      int flags)
{
	struct nlmmap_socket *socket = nlmmap_socket_of(sock);

	if (socket->attached)
		return nlmmap_attached_recvmsg(socket->attached, len, flags);
	return nlmmap_base->recvmsg(sock, msg, len, flags);
}

static void nlmmap_ops_show_fdinfo(struct seq_file *m, struct socket *sock)
{
	nlmmap_socket_show(nlmmap_socket_of(sock), m);
}

static int nlmmap_ops_release(struct socket *sock)
{
	if (sock->sk)
		nlmmap_socket_release(nlmmap_socket_of(sock));
	return nlmmap_base->release(sock);
}

/**
 * nlmmap_base_sendmsg - netlink's own sendmsg()
 * @sock: a netlink socket
 * @msg: as there
 * @len: as there
 *
 * Context: process.
 */
int nlmmap_base_sendmsg(struct socket *sock, struct msghdr *msg, size_t len)
{
	return nlmmap_base->sendmsg(sock, msg, len);
}

/**
 * nlmmap_base_recvmsg - netlink's own recvmsg()
 * @sock: a netlink socket
 * @msg: as there
 * @len: as there
 * @flags: as there
 *
 * Context: process.
 */
int nlmmap_base_recvmsg(struct socket *sock, struct msghdr *msg, size_t len, int flags)
{
	return nlmmap_base->recvmsg(sock, msg, len, flags);
}

/**
 * nlmmap_base_data_ready - what sk_data_ready is of every netlink socket
 * @sk: a netlink socket
 *
 * Context: any that netlink sends from.
 */
void nlmmap_base_data_ready(struct sock *sk)
{
	nlmmap_default_data_ready(sk);
}

/**
 * nlmmap_base_error_report - what sk_error_report is of every netlink socket
 * @sk: a netlink socket
 *
 * Context: any that netlink sends from.
 */
void nlmmap_base_error_report(struct sock *sk)
{
	nlmmap_default_error_report(sk);
}

/**
 * nlmmap_override_fits - can this socket have our operations?
 * @sock: a netlink socket without them
 *
 * Context: process; nlmmap_setup_mutex is held.
 */
bool nlmmap_override_fits(const struct socket *sock)
{
	return READ_ONCE(sock->ops) == nlmmap_base;
}

/**
 * nlmmap_override - give a socket our operations
 * @sock: a netlink socket that is in the hash now; has not been here before
 *
 * Context: process; nlmmap_setup_mutex is held.
 */
void nlmmap_override(struct socket *sock)
{
	/* The sender's socket holds a reference through its family. */
	__module_get(THIS_MODULE);
	/* Pairs with the smp_rmb() in nlmmap_socket_of(). */
	smp_store_release(&sock->ops, &nlmmap_ops);
}

/**
 * nlmmap_override_init - learn netlink's operations
 *
 * Before the family exists, so that no request can come too early: all netlink
 * families share one table, so any kernel socket shows it.
 *
 * Context: module load.
 * Return: 0 or what sock_create_kern() says.
 */
int __init nlmmap_override_init(void)
{
	struct socket *sock;
	int err;

	err = sock_create_kern(&init_net, PF_NETLINK, SOCK_RAW, NETLINK_ROUTE, &sock);
	if (err)
		return err;
	nlmmap_base = sock->ops;
	nlmmap_default_data_ready = sock->sk->sk_data_ready;
	nlmmap_default_error_report = sock->sk->sk_error_report;
	sock_release(sock);

	nlmmap_ops = *nlmmap_base;
	nlmmap_ops.owner = THIS_MODULE;
	nlmmap_ops.mmap = nlmmap_ops_mmap;
	nlmmap_ops.poll = nlmmap_ops_poll;
	nlmmap_ops.show_fdinfo = nlmmap_ops_show_fdinfo;
	nlmmap_ops.sendmsg = nlmmap_ops_sendmsg;
	nlmmap_ops.recvmsg = nlmmap_ops_recvmsg;
	nlmmap_ops.release = nlmmap_ops_release;
	return 0;
}
