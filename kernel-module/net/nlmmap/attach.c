// SPDX-License-Identifier: GPL-2.0
/*
 * A ring under a socket of another netlink family: how it comes there, what the
 * socket's operations do then, and how it goes. drain.c and serve.c fill it.
 *
 * Lifetimes: the callbacks find a struct nlmmap_attached in the sockets' hash,
 * under RCU. Release takes it out of there, restores the callbacks, sets @dead,
 * after which no work is queued, and waits for the work item; the memory goes
 * after a grace period.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/net.h>
#include <linux/netlink.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/user_namespace.h>
#include <linux/wait.h>
#include <net/sock.h>

#include "attach.h"
#include "drain.h"
#include "override.h"
#include "serve.h"
#include "socket.h"

/* How long one who was woken in recvmsg() is waited for with little effort, in
 * about milliseconds, how many may not leave, and how long all of them have.
 */
#define NLMMAP_EXPEL_TRIES	100
#define NLMMAP_EXPEL_FAILURES	3
#define NLMMAP_EXPEL_MS		3000

bool nlmmap_attach_unprivileged;

/**
 * nlmmap_attached_poll - ask for and arm the ring of an attached socket
 * @attached: not released
 * @mask: what netlink's own poll said
 *
 * Context: process.
 * Return: the socket's mask: the ring stands for the queue, and errors are told
 * in the ring.
 */
__poll_t nlmmap_attached_poll(struct nlmmap_attached *attached, __poll_t mask)
{
	if (READ_ONCE(attached->stalled) ||
	    (u32)atomic_read(&attached->sock->sk->sk_drops) != READ_ONCE(attached->drops))
		nlmmap_drain_restart(attached);
	mask &= ~(EPOLLIN | EPOLLRDNORM | EPOLLERR);
	if (nlmmap_ring_poll(&attached->socket->rx))
		mask |= EPOLLIN | EPOLLRDNORM;
	return mask;
}

/* Is whoever has the credentials @cred never allowed more than who has @other? */
static bool nlmmap_cred_is_within(const struct cred *cred, const struct cred *other)
{
	const struct user_namespace *ns = cred->user_ns;

	while (ns && ns != other->user_ns)
		ns = ns->parent;
	if (!ns)
		return false;
	if (cap_issubset(CAP_FULL_SET, other->cap_effective))
		return true;
	/* Who made a user namespace has all rights there by his uid alone. */
	return cred->user_ns == other->user_ns && uid_eq(cred->euid, other->euid) &&
	       cap_issubset(cred->cap_effective, other->cap_effective);
}

/* The credentials of the caller without what they allow. */
static const struct cred *nlmmap_cred_nobody(void)
{
	struct cred *cred = prepare_creds();

	if (!cred)
		return NULL;
	cap_clear(cred->cap_inheritable);
	cap_clear(cred->cap_permitted);
	cap_clear(cred->cap_effective);
	cap_clear(cred->cap_ambient);
	cred->uid = KUIDT_INIT(overflowuid);
	cred->euid = cred->uid;
	cred->suid = cred->uid;
	cred->fsuid = cred->uid;
	return cred;
}

/* A dump goes on with the least rights of all who ever sent on the socket, for
 * any of them may have begun it, or do so right now, and all of them can read
 * it. So a privileged program does not lend its rights to somebody else's dump,
 * whatever it sends on a shared descriptor and whenever. Context: process.
 */
static void nlmmap_attached_limit(struct nlmmap_attached *attached)
{
	const struct cred *cred = current_cred(), *old;
	bool within;

	old = READ_ONCE(attached->cred);
	if (old == cred || old == attached->nobody)
		return;
	spin_lock_irq(&attached->lock);
	within = nlmmap_cred_is_within(attached->cred, cred);
	spin_unlock_irq(&attached->lock);
	if (within)
		return;
	/* Nobody is to go on with a dump of the caller's as somebody else. */
	mutex_lock(&attached->serving);
	spin_lock_irq(&attached->lock);
	old = NULL;
	if (!nlmmap_cred_is_within(attached->cred, cred)) {
		old = attached->cred;
		if (!nlmmap_cred_is_within(cred, old))
			cred = attached->nobody;
		WRITE_ONCE(attached->cred, get_cred(cred));
	}
	spin_unlock_irq(&attached->lock);
	mutex_unlock(&attached->serving);
	put_cred(old);
}

/**
 * nlmmap_attached_sendmsg - send, and serve what came of it
 * @attached: not released
 * @msg: as for netlink's own
 * @len: as for netlink's own
 *
 * So an answer is in the ring when sendmsg() returns, as it would be in the
 * queue.
 *
 * Context: process.
 * Return: what netlink's own returns.
 */
int nlmmap_attached_sendmsg(struct nlmmap_attached *attached, struct msghdr *msg,
			    size_t len)
{
	struct nlmmap_sending sending = { .task = current };
	bool busy;
	int err;

	nlmmap_attached_limit(attached);
	spin_lock_irq(&attached->lock);
	list_add(&sending.node, &attached->sending);
	WRITE_ONCE(attached->compat, in_compat_syscall());
	spin_unlock_irq(&attached->lock);

	err = nlmmap_base_sendmsg(attached->sock, msg, len);

	spin_lock_irq(&attached->lock);
	list_del(&sending.node);
	busy = attached->busy;
	spin_unlock_irq(&attached->lock);
	if (busy)
		nlmmap_serve(attached);
	return err;
}

/* Sleeps as netlink's recvmsg() does, until the ring is readable. */
static int nlmmap_attached_wait(struct nlmmap_attached *attached, int flags)
{
	struct sock *sk = attached->sock->sk;
	long timeout = sock_rcvtimeo(sk, flags & MSG_DONTWAIT);
	DEFINE_WAIT_FUNC(wait, woken_wake_function);
	int err;

	/* Before the ring is armed, so that no wake-up is missed. */
	add_wait_queue(sk_sleep(sk), &wait);
	for (;;) {
		err = 0;
		if (nlmmap_attached_poll(attached, 0))
			break;
		/* What was sent before is there, as it would be in the queue,
		 * though the work item may not have come to it yet.
		 */
		if (READ_ONCE(attached->busy) ||
		    !skb_queue_empty_lockless(&sk->sk_receive_queue))
			nlmmap_serve(attached);
		/* Or the work item has just done so: whoever sees that it is
		 * not busy sees what it put into the ring. Pairs with its
		 * unlocking of the ring's lock and locking of @lock.
		 */
		smp_rmb();
		if (nlmmap_attached_poll(attached, 0))
			break;
		err = -EAGAIN;
		if (!timeout)
			break;
		err = sock_intr_errno(timeout);
		if (signal_pending(current))
			break;
		timeout = wait_woken(&wait, TASK_INTERRUPTIBLE, timeout);
	}
	remove_wait_queue(sk_sleep(sk), &wait);
	return err;
}

/**
 * nlmmap_attached_recvmsg - what recvmsg() answers
 * @attached: not released
 * @len: room for so many bytes
 * @flags: MSG_*
 *
 * Context: process, may sleep.
 * Return: for a look at nothing, 0 when the ring is readable, or why it was
 * not waited for; else -EBUSY: what it would have read is in the ring.
 */
int nlmmap_attached_recvmsg(struct nlmmap_attached *attached, size_t len, int flags)
{
	if (!len && (flags & (MSG_PEEK | MSG_TRUNC | MSG_OOB)) == MSG_PEEK)
		return nlmmap_attached_wait(attached, flags);
	pr_info_once("recvmsg() answers EBUSY on a netlink socket with a ring: call nlmmap_recvmsg(), or run the program by `nlmmap run`\n");
	return -EBUSY;
}

/* Does anybody wait for one message alone, as recvmsg() does? */
static bool nlmmap_attached_has_sleeper(const struct sock *sk)
{
	const struct wait_queue_entry *entry;
	struct socket_wq *wq;
	bool has = false;

	rcu_read_lock();
	wq = rcu_dereference(sk->sk_wq);
	spin_lock_irq(&wq->wait.lock);
	list_for_each_entry(entry, &wq->wait.head, entry)
		has |= entry->flags & WQ_FLAG_EXCLUSIVE;
	spin_unlock_irq(&wq->wait.lock);
	rcu_read_unlock();
	return has;
}

/* Has another round of waking sleepers a point? */
static bool nlmmap_expel_goes_on(const struct sock *sk, int failures, unsigned long end)
{
	return failures < NLMMAP_EXPEL_FAILURES && nlmmap_attached_has_sleeper(sk) &&
	       time_before(jiffies, end) && !fatal_signal_pending(current);
}

/* One round. Return: did somebody take the error? */
static bool nlmmap_expel_one(struct sock *sk)
{
	int tries = NLMMAP_EXPEL_TRIES;
	int error;

	/* Another error does as well. */
	error = cmpxchg(&sk->sk_err, 0, EBUSY) ?: EBUSY;
	nlmmap_base_data_ready(sk);
	do {
		usleep_range(500, 1000);
	} while (READ_ONCE(sk->sk_err) == error && --tries);
	if (READ_ONCE(sk->sk_err) != error)
		return true;
	/* A signal woke him first, or it was an exclusive epoll; or he did not
	 * get to run yet, and is not among those who sleep either.
	 */
	synchronize_rcu_tasks();
	return READ_ONCE(sk->sk_err) != error;
}

/* Who came to netlink's recvmsg() before the attach and sleeps there would sleep
 * for ever. Each time one of them takes the error.
 *
 * Only so long: it may be an exclusive epoll, which takes nothing, and somebody
 * else who takes the errors, by getsockopt(), over and over. Whoever sleeps even
 * then, or came by the thousand, sleeps until a signal or his timeout: they did
 * that to their own socket.
 */
static void nlmmap_attached_expel(struct nlmmap_attached *attached)
{
	struct sock *sk = attached->sock->sk;
	int failures = 0;
	unsigned long end;
	bool woken;

	/* Who came there got a reference to the file before, unless nobody else
	 * had one: the caller's descriptor and the caller have the two. The
	 * barrier pairs with the one in getting it.
	 */
	smp_mb();
	if (file_count(attached->sock->file) <= 2)
		return;
	/* Until he has left, or sleeps. */
	synchronize_rcu_tasks();

	/* The error is for them, not for who serves. */
	mutex_lock(&attached->serving);
	end = jiffies + msecs_to_jiffies(NLMMAP_EXPEL_MS);
	do {
		woken = false;
		while (nlmmap_expel_goes_on(sk, failures, end)) {
			woken = true;
			if (!nlmmap_expel_one(sk))
				failures++;
		}
		cmpxchg(&sk->sk_err, EBUSY, 0);
		/* Who was woken when somebody else took the error sleeps again. */
		if (woken)
			synchronize_rcu_tasks();
	} while (woken && nlmmap_expel_goes_on(sk, failures, end));
	mutex_unlock(&attached->serving);
}

/**
 * nlmmap_attached_free - free what no one can see
 * @attached: ended, and a grace period has passed; or never begun
 *
 * Context: process.
 */
void nlmmap_attached_free(struct nlmmap_attached *attached)
{
	put_cred(attached->cred);
	put_cred(attached->nobody);
	put_user_ns(attached->user_ns);
	mutex_destroy(&attached->serving);
	kfree(attached);
}

/* A look that takes nothing, in the caller's context: security modules can
 * refuse it. No mutex is held, because a dump under way takes rtnl here; nor are
 * the caller's rights, because it may be somebody else's.
 */
static int nlmmap_attach_ask(struct nlmmap_attached *attached)
{
	const struct cred *saved;
	struct msghdr msg = { };
	int err;

	iov_iter_kvec(&msg.msg_iter, ITER_DEST, NULL, 0, 0);
	saved = override_creds(attached->nobody);
	err = sock_recvmsg(attached->sock, &msg, MSG_PEEK | MSG_DONTWAIT);
	revert_creds(saved);
	if (err >= 0) {
		/* See nlmmap_serve_forgets(). */
		cmpxchg(&attached->sock->sk->sk_err, EINVAL, 0);
		return 0;
	}
	if (err == -EAGAIN)
		return 0;
	if (err == -EACCES || err == -EPERM)
		return err;
	/* What recvmsg() would have told, and is not to be lost. */
	if (err == -ENOBUFS)
		attached->overruns++;
	else
		attached->error = -err;
	return 0;
}

/* There will be no ring: what the look took is recvmsg()'s to tell. */
static void nlmmap_attach_give_back(struct nlmmap_attached *attached)
{
	struct sock *sk = attached->sock->sk;
	int error = attached->overruns ? ENOBUFS : attached->error;

	if (error && !cmpxchg(&sk->sk_err, 0, error))
		sk_error_report(sk);
}

static struct nlmmap_attached *nlmmap_attached_alloc(struct socket *sock)
{
	struct nlmmap_attached *attached;

	attached = kzalloc(sizeof(*attached), GFP_KERNEL_ACCOUNT);
	if (!attached)
		return NULL;
	attached->nobody = nlmmap_cred_nobody();
	if (!attached->nobody) {
		kfree(attached);
		return NULL;
	}
	attached->sock = sock;
	attached->user_ns = get_user_ns(current_user_ns());
	/* Whoever else has the descriptor, or is sending right now, may have a
	 * dump under way, and will read it. The two are the caller's descriptor
	 * and the caller.
	 */
	attached->cred = get_cred(file_count(sock->file) <= 2 ? current_cred() :
				  attached->nobody);
	attached->compat = in_compat_syscall();
	attached->drops = (u32)atomic_read(&sock->sk->sk_drops);
	mutex_init(&attached->serving);
	INIT_WORK(&attached->work, nlmmap_serve_work);
	spin_lock_init(&attached->lock);
	INIT_LIST_HEAD(&attached->sending);
	return attached;
}

/**
 * nlmmap_attach - give another family's socket a ring
 * @skb: the request
 * @sock: the socket, held by the caller
 * @setup: unchecked
 * @extack: for the sentence
 *
 * Context: process, may sleep.
 * Return: what the socket gained, or an ERR_PTR() as the uapi header says.
 */
struct nlmmap_socket *nlmmap_attach(struct sk_buff *skb, struct socket *sock,
				    struct nlmmap_setup *setup,
				    struct netlink_ext_ack *extack)
{
	struct nlmmap_attached *attached;
	struct nlmmap_socket *socket;
	struct sockaddr_nl address;
	int err;

	if (!READ_ONCE(nlmmap_attach_unprivileged) && !netlink_capable(skb, CAP_NET_ADMIN)) {
		NL_SET_ERR_MSG(extack,
			       "attaching takes CAP_NET_ADMIN, or the module's attach_unprivileged");
		return ERR_PTR(-EPERM);
	}
	if (sock->sk->sk_family != PF_NETLINK) {
		NL_SET_ERR_MSG(extack, "the descriptor is no netlink socket");
		return ERR_PTR(-EAFNOSUPPORT);
	}
	if (sock->sk->sk_protocol == skb->sk->sk_protocol) {
		NL_SET_ERR_MSG(extack, "a socket of this family is set up by a request of its own");
		return ERR_PTR(-EINVAL);
	}
	if (nlmmap_socket_find(sock->sk)) {
		NL_SET_ERR_MSG(extack, "this socket has an RX ring already");
		return ERR_PTR(-EBUSY);
	}
	setup->portid = 0;
	if (kernel_getsockname(sock, (struct sockaddr *)&address) > 0)
		setup->portid = address.nl_pid;
	attached = nlmmap_attached_alloc(sock);
	if (!attached) {
		NL_SET_ERR_MSG(extack, "no memory for the socket's state");
		return ERR_PTR(-ENOMEM);
	}
	err = nlmmap_attach_ask(attached);
	if (err) {
		NL_SET_ERR_MSG(extack, "a security module does not allow receiving on this socket");
		goto err_free;
	}
	setup->attached = attached;
	socket = nlmmap_socket_setup(sock->sk, setup, extack);
	if (IS_ERR(socket)) {
		err = PTR_ERR(socket);
		nlmmap_attach_give_back(attached);
		goto err_free;
	}
	nlmmap_attached_expel(attached);
	/* So that a burst which comes right now is drained in line. */
	nlmmap_serve(attached);
	return socket;

err_free:
	nlmmap_attached_free(attached);
	return ERR_PTR(err);
}
