// SPDX-License-Identifier: GPL-2.0
/*
 * nlmmap_sender: a netlink family like any other, that says what tests want
 *
 * Requests and dumps; send.c sends. Nothing is kept between requests, so there
 * is nothing to lock: the core holds the socket that a request came by.
 */
#include <linux/cred.h>
#include <linux/module.h>
#include <linux/netlink.h>
#include <net/net_namespace.h>
#include <net/netlink.h>
#include <net/netns/generic.h>
#include <net/sock.h>

#include "nlmmap_test.h"
#include "sender.h"

static unsigned int sender_net_id;

struct sender_net {
	struct sock *sock;
};

static int sender_do_send(struct sk_buff *skb, const struct nlmsghdr *nlh)
{
	const struct nlmmap_sender_send *order = nlmsg_data(nlh);
	struct nlmmap_sender_sent sent = { };
	struct nlmsghdr *answer;
	struct sk_buff *reply;
	int err;

	if (nlmsg_len(nlh) < sizeof(*order) || order->bytes % 8 || order->bytes < 8 ||
	    order->bytes > (1 << 20) || order->context > NLMMAP_SENDER_CPUS ||
	    !order->senders || order->senders > NLMMAP_SENDER_MOST ||
	    (order->senders > 1 && order->context != NLMMAP_SENDER_CPUS) ||
	    (!order->portid && (!order->group || order->group > NLMMAP_SENDER_GROUPS)))
		return -EINVAL;
	reply = nlmsg_new(sizeof(sent), GFP_KERNEL);
	if (!reply)
		return -ENOMEM;
	err = sender_send(skb->sk, order, &sent);
	if (err) {
		nlmsg_free(reply);
		return err;
	}
	/* Cannot fail: the room is there. */
	answer = nlmsg_put(reply, NETLINK_CB(skb).portid, nlh->nlmsg_seq, NLMMAP_SENDER_SENT,
			   sizeof(sent), 0);
	memcpy(nlmsg_data(answer), &sent, sizeof(sent));
	nlmsg_unicast(skb->sk, reply, NETLINK_CB(skb).portid);
	return 0;
}

static int sender_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	const struct nlmmap_sender_dump *asked = nlmsg_data(cb->nlh);
	u32 number = cb->args[0];

	/* More is to come, as nl80211 says when it wants a larger buffer. */
	if (asked->flags & NLMMAP_SENDER_EMPTY_PARTS && cb->args[1]++ % 2 == 0)
		return 1;
	cb->seq = asked->flags & NLMMAP_SENDER_CHANGING ? number + 1 : 1;
	for (; number < asked->messages; number++) {
		struct nlmmap_sender_part *part;
		struct nlmsghdr *nlh;
		u32 index;

		nlh = nlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq,
				NLMMAP_SENDER_PART, asked->bytes,
				asked->flags & NLMMAP_SENDER_NO_MULTI ? 0 : NLM_F_MULTI);
		if (!nlh)
			break;
		part = nlmsg_data(nlh);
		part->number = number;
		part->uid = __kuid_val(current_uid());
		part->capable = ns_capable(&init_user_ns, CAP_NET_ADMIN);
		part->net_capable = netlink_net_capable(cb->skb, CAP_NET_ADMIN);
		for (index = 2; index < asked->bytes / sizeof(u64); index++)
			((u64 *)part)[index] = nlmmap_test_word(0, number, index);
		nl_dump_check_consistent(cb, nlh);
		nlmsg_end(skb, nlh);
	}
	cb->args[0] = number;
	if (asked->flags & NLMMAP_SENDER_AT_ONCE && number == asked->messages)
		return 0;
	return skb->len;
}

static int sender_do_dump(struct sk_buff *skb, const struct nlmsghdr *nlh)
{
	const struct nlmmap_sender_dump *asked = nlmsg_data(nlh);
	struct netlink_dump_control control = {
		.dump = sender_dump,
	};

	if (nlmsg_len(nlh) < sizeof(*asked) || asked->bytes % 8 ||
	    asked->bytes < sizeof(struct nlmmap_sender_part) || asked->bytes > 2048 ||
	    asked->min_dump_alloc > (1 << 20))
		return -EINVAL;
	control.min_dump_alloc = asked->min_dump_alloc;
	return netlink_dump_start(skb->sk, skb, nlh, &control);
}

static int sender_do_error(struct sk_buff *skb, const struct nlmsghdr *nlh)
{
	const struct nlmmap_sender_error *error = nlmsg_data(nlh);

	if (nlmsg_len(nlh) < sizeof(*error) || !error->group ||
	    error->group > NLMMAP_SENDER_GROUPS || !error->error || error->error > MAX_ERRNO)
		return -EINVAL;
	netlink_set_err(skb->sk, 0, error->group, -(int)error->error);
	return 0;
}

static int sender_do(struct sk_buff *skb, struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	if (nlh->nlmsg_type == NLMMAP_SENDER_DUMP)
		return sender_do_dump(skb, nlh);
	if (!netlink_capable(skb, CAP_NET_ADMIN)) {
		NL_SET_ERR_MSG(extack, "sending takes CAP_NET_ADMIN");
		return -EPERM;
	}
	switch (nlh->nlmsg_type) {
	case NLMMAP_SENDER_SEND:
		return sender_do_send(skb, nlh);
	case NLMMAP_SENDER_ERROR:
		return sender_do_error(skb, nlh);
	default:
		NL_SET_ERR_MSG(extack, "unknown request");
		return -EOPNOTSUPP;
	}
}

static void sender_input(struct sk_buff *skb)
{
	netlink_rcv_skb(skb, sender_do);
}

static int __net_init sender_net_init(struct net *net)
{
	struct sender_net *sn = net_generic(net, sender_net_id);
	struct netlink_kernel_cfg cfg = {
		.groups	= NLMMAP_SENDER_GROUPS,
		.flags	= NL_CFG_F_NONROOT_RECV | NL_CFG_F_NONROOT_SEND,
		.input	= sender_input,
	};

	sn->sock = netlink_kernel_create(net, NLMMAP_SENDER_FAMILY, &cfg);
	return sn->sock ? 0 : -ENOMEM;
}

static void __net_exit sender_net_exit(struct net *net)
{
	struct sender_net *sn = net_generic(net, sender_net_id);

	netlink_kernel_release(sn->sock);
}

static struct pernet_operations sender_net_ops = {
	.init	= sender_net_init,
	.exit	= sender_net_exit,
	.id	= &sender_net_id,
	.size	= sizeof(struct sender_net),
};

static int __init sender_init(void)
{
	return register_pernet_subsys(&sender_net_ops);
}

static void __exit sender_exit(void)
{
	unregister_pernet_subsys(&sender_net_ops);
}

module_init(sender_init);
module_exit(sender_exit);

MODULE_DESCRIPTION("A netlink family that says what tests want");
MODULE_LICENSE("GPL");
