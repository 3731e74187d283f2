// SPDX-License-Identifier: GPL-2.0
/*
 * Requests: what sockets of the family ask of us
 *
 * The core calls nlmmap_control_input() in the sender's context and does not
 * serialise the callers. Group requests run under nlmmap_group_mutex; set-up
 * orders itself in socket.c.
 */
#include <linux/net.h>
#include <linux/netlink.h>
#include <net/netlink.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include "attach.h"
#include "control.h"
#include "group.h"
#include "socket.h"

static const struct nla_policy nlmmap_setup_policy[NLMMAP_A_FLAGS + 1] = {
	[NLMMAP_A_RX_BYTES]	= { .type = NLA_U32 },
	[NLMMAP_A_FLAGS]	= { .type = NLA_U32 },
};

static const struct nla_policy nlmmap_attach_policy[NLMMAP_A_FD + 1] = {
	[NLMMAP_A_RX_BYTES]	= { .type = NLA_U32 },
	[NLMMAP_A_FLAGS]	= { .type = NLA_U32 },
	[NLMMAP_A_FD]		= { .type = NLA_U32 },
};

static const struct nla_policy nlmmap_socket_policy[NLMMAP_A_FD + 1] = {
	[NLMMAP_A_FD]		= { .type = NLA_U32 },
};

static const struct nla_policy nlmmap_group_policy[NLMMAP_A_GROUP_ID + 1] = {
	[NLMMAP_A_GROUP_NAME]	= { .type = NLA_NUL_STRING,
				    .len = NLMMAP_GROUP_NAME_BYTES - 1 },
	[NLMMAP_A_GROUP_ID]	= { .type = NLA_U32 },
};

/* Requests that take no attributes at all. */
static const struct nla_policy nlmmap_empty_policy[1];

#define NLMMAP_FEATURES	(NLMMAP_FEATURE_TIME | NLMMAP_FEATURE_CREDENTIALS | \
			 NLMMAP_FEATURE_ATTACH | NLMMAP_FEATURE_WAIT)

/* What a NLMMAP_MSG_SOCKET needs without its groups, generously. */
#define NLMMAP_ANSWER_BYTES	512

/* What a question about sockets and its answer share. */
struct nlmmap_answer {
	struct sk_buff *skb;
	const struct net *net;
	struct user_namespace *user_ns;
	u32 portid;
	u32 seq;
	int flags;
	u32 largest;
};

static int nlmmap_put_joined(struct sk_buff *skb, const struct nlmmap_socket *socket)
{
	const struct nlmmap_membership *membership;

	lockdep_assert_held(&nlmmap_group_mutex);
	list_for_each_entry(membership, &socket->memberships, by_socket)
		if (nla_put_u32(skb, NLMMAP_A_GROUP_ID, membership->group->id))
			return -EMSGSIZE;
	return 0;
}

static int nlmmap_put_u64_attr(struct sk_buff *skb, int type, u64 value)
{
	return nla_put_u64_64bit(skb, type, value, NLMMAP_A_PAD);
}

/* The most a NLMMAP_MSG_SOCKET can need; a ring keeps room for each group, so
 * the number of groups is bounded by its size and by that of the family.
 */
static size_t nlmmap_socket_answer_bytes(u32 data_bytes)
{
	size_t groups = min_t(size_t, NLMMAP_GROUPS, data_bytes / 4 / NLMMAP_NOTICE_BYTES);

	return NLMMAP_ANSWER_BYTES + groups * nla_total_size(sizeof(u32));
}

static int nlmmap_put_socket(const struct nlmmap_answer *answer,
			     struct nlmmap_socket *socket)
{
	struct nlmmap_ring_counters counters;
	struct sk_buff *skb = answer->skb;
	struct nlmsghdr *nlh;

	nlh = nlmsg_put(skb, answer->portid, answer->seq, NLMMAP_MSG_SOCKET, 0,
			answer->flags);
	if (!nlh)
		return -EMSGSIZE;
	nlmmap_ring_count(&socket->rx, &counters);
	if (nla_put_u32(skb, NLMMAP_A_ABI_VERSION, NLMMAP_ABI_VERSION) ||
	    nlmmap_put_u64_attr(skb, NLMMAP_A_FEATURES, NLMMAP_FEATURES) ||
	    nla_put_u32(skb, NLMMAP_A_RX_BYTES, socket->memory.data_bytes) ||
	    nla_put_u32(skb, NLMMAP_A_FLAGS, socket->flags) ||
	    nla_put_u32(skb, NLMMAP_A_HEADER_BYTES, socket->rx.header_bytes) ||
	    nla_put_u32(skb, NLMMAP_A_PORTID, socket->portid) ||
	    nla_put_u32(skb, NLMMAP_A_PROTOCOL, socket->sk->sk_protocol) ||
	    nlmmap_put_u64_attr(skb, NLMMAP_A_INODE, sock_i_ino(socket->sk)) ||
	    nla_put_u32(skb, NLMMAP_A_UID, from_kuid_munged(answer->user_ns, socket->uid)) ||
	    nlmmap_put_u64_attr(skb, NLMMAP_A_PRODUCED, counters.produced) ||
	    nlmmap_put_u64_attr(skb, NLMMAP_A_CONSUMED, counters.consumed) ||
	    nlmmap_put_u64_attr(skb, NLMMAP_A_SEQ, counters.seq) ||
	    nlmmap_put_u64_attr(skb, NLMMAP_A_LOST, counters.lost) ||
	    nlmmap_put_u64_attr(skb, NLMMAP_A_HIGH_WATER, counters.high_water) ||
	    nlmmap_put_u64_attr(skb, NLMMAP_A_WAKEUPS, counters.wakeups) ||
	    nlmmap_put_u64_attr(skb, NLMMAP_A_FORGED, counters.forged) ||
	    nlmmap_put_joined(skb, socket)) {
		nlmsg_cancel(skb, nlh);
		return -EMSGSIZE;
	}
	nlmsg_end(skb, nlh);
	return 0;
}

static int nlmmap_put_group(struct sk_buff *skb, const struct nlmmap_group *group,
			    u32 portid, u32 seq, int flags)
{
	struct nlmsghdr *nlh;

	nlh = nlmsg_put(skb, portid, seq, NLMMAP_MSG_GROUP, 0, flags);
	if (!nlh)
		return -EMSGSIZE;
	if (nla_put_u32(skb, NLMMAP_A_GROUP_ID, group->id) ||
	    nla_put_string(skb, NLMMAP_A_GROUP_NAME, group->name) ||
	    nla_put_u32(skb, NLMMAP_A_GROUP_FLAGS, group->flags) ||
	    nla_put_u32(skb, NLMMAP_A_MAX_BYTES, group->max_bytes) ||
	    nla_put_u32(skb, NLMMAP_A_MEMBERS, group->ring_count) ||
	    (group->plain && nla_put_flag(skb, NLMMAP_A_PLAIN)) ||
	    nlmmap_put_u64_attr(skb, NLMMAP_A_PUBLISHED, nlmmap_group_published(group))) {
		nlmsg_cancel(skb, nlh);
		return -EMSGSIZE;
	}
	nlmsg_end(skb, nlh);
	return 0;
}

/* The sender's rights over the network namespace, as opener and as sender. */
static bool nlmmap_is_admin(const struct sk_buff *skb)
{
	return netlink_net_capable(skb, CAP_NET_ADMIN);
}

static struct nlmmap_socket *nlmmap_socket_asked(const struct sock *sk,
						 struct netlink_ext_ack *extack)
{
	struct nlmmap_socket *socket = nlmmap_socket_find(sk);

	if (!socket) {
		NL_SET_ERR_MSG(extack, "this socket has no ring: set it up first");
		return ERR_PTR(-ENODEV);
	}
	return socket;
}

static int nlmmap_answer_socket(struct sk_buff *skb, const struct nlmsghdr *nlh,
				struct nlmmap_socket *socket, struct sk_buff *reply)
{
	struct nlmmap_answer answer = {
		.skb = reply,
		.net = sock_net(skb->sk),
		.user_ns = sk_user_ns(NETLINK_CB(skb).sk),
		.portid = NETLINK_CB(skb).portid,
		.seq = nlh->nlmsg_seq,
	};
	int err;

	mutex_lock(&nlmmap_group_mutex);
	err = nlmmap_put_socket(&answer, socket);
	mutex_unlock(&nlmmap_group_mutex);
	if (err) {
		nlmsg_free(reply);
		return err;
	}
	/* A sender that lets no answer in is told ENOBUFS by the core. */
	nlmsg_unicast(skb->sk, reply, NETLINK_CB(skb).portid);
	return 0;
}

/* The socket that the request names by descriptor, with a reference to its file. */
static struct socket *nlmmap_socket_named(const struct nlattr *fd,
					  struct netlink_ext_ack *extack)
{
	struct socket *sock;
	int err;

	sock = sockfd_lookup(nla_get_u32(fd), &err);
	if (!sock) {
		if (err == -ENOTSOCK)
			NL_SET_ERR_MSG(extack, "the descriptor is no socket");
		else
			NL_SET_ERR_MSG(extack, "there is no such descriptor");
		return ERR_PTR(err);
	}
	return sock;
}

static int nlmmap_do_setup(struct sk_buff *skb, struct nlmsghdr *nlh,
			   struct netlink_ext_ack *extack)
{
	bool attach = nlh->nlmsg_type == NLMMAP_MSG_ATTACH;
	struct nlattr *tb[NLMMAP_A_FD + 1];
	struct nlmmap_setup setup = { };
	struct nlmmap_socket *socket;
	struct socket *sock = NULL;
	struct sk_buff *reply;
	int err;

	err = nlmsg_parse(nlh, 0, tb, attach ? NLMMAP_A_FD : NLMMAP_A_FLAGS,
			  attach ? nlmmap_attach_policy : nlmmap_setup_policy, extack);
	if (err)
		return err;
	if (!tb[NLMMAP_A_RX_BYTES]) {
		NL_SET_ERR_MSG(extack, "no ring size given");
		return -EINVAL;
	}
	setup.rx_bytes = nla_get_u32(tb[NLMMAP_A_RX_BYTES]);
	if (tb[NLMMAP_A_FLAGS])
		setup.flags = nla_get_u32(tb[NLMMAP_A_FLAGS]);
	setup.portid = NETLINK_CB(skb).portid;
	if (attach) {
		if (!tb[NLMMAP_A_FD]) {
			NL_SET_ERR_MSG(extack, "no descriptor given");
			return -EINVAL;
		}
		sock = nlmmap_socket_named(tb[NLMMAP_A_FD], extack);
		if (IS_ERR(sock))
			return PTR_ERR(sock);
	}

	/* Before the set-up, which cannot be undone. Other threads may join groups
	 * with the socket before it is answered.
	 */
	reply = nlmsg_new(nlmmap_socket_answer_bytes(setup.rx_bytes), GFP_KERNEL);
	if (!reply) {
		NL_SET_ERR_MSG(extack, "no memory for the answer");
		err = -ENOMEM;
		goto out_put;
	}
	socket = attach ? nlmmap_attach(skb, sock, &setup, extack) :
		 nlmmap_socket_setup(NETLINK_CB(skb).sk, &setup, extack);
	if (IS_ERR(socket)) {
		nlmsg_free(reply);
		err = PTR_ERR(socket);
		goto out_put;
	}
	err = nlmmap_answer_socket(skb, nlh, socket, reply);
out_put:
	if (sock)
		sockfd_put(sock);
	return err;
}

static struct nlmmap_group *nlmmap_group_asked(const struct net *net,
					       struct nlattr **tb,
					       struct netlink_ext_ack *extack)
{
	struct nlmmap_group *group;

	if (!tb[NLMMAP_A_GROUP_NAME] == !tb[NLMMAP_A_GROUP_ID]) {
		NL_SET_ERR_MSG(extack, "give the group's name or its number");
		return ERR_PTR(-EINVAL);
	}
	if (tb[NLMMAP_A_GROUP_NAME])
		group = nlmmap_group_by_name(net, nla_data(tb[NLMMAP_A_GROUP_NAME]));
	else
		group = nlmmap_group_by_id(net, nla_get_u32(tb[NLMMAP_A_GROUP_ID]));
	if (!group) {
		NL_SET_ERR_MSG(extack, "no such group in this network namespace");
		return ERR_PTR(-ENOENT);
	}
	return group;
}

static int nlmmap_do_join(struct sk_buff *skb, struct nlmsghdr *nlh,
			  struct netlink_ext_ack *extack)
{
	struct nlattr *tb[NLMMAP_A_GROUP_ID + 1];
	struct nlmmap_socket *socket;
	struct nlmmap_group *group;
	bool admin = nlmmap_is_admin(skb);
	int err;

	err = nlmsg_parse(nlh, 0, tb, NLMMAP_A_GROUP_ID, nlmmap_group_policy, extack);
	if (err)
		return err;
	socket = nlmmap_socket_asked(NETLINK_CB(skb).sk, extack);
	if (IS_ERR(socket))
		return PTR_ERR(socket);

	mutex_lock(&nlmmap_group_mutex);
	group = nlmmap_group_asked(sock_net(skb->sk), tb, extack);
	if (IS_ERR(group)) {
		err = PTR_ERR(group);
	} else if (nlh->nlmsg_type == NLMMAP_MSG_LEAVE) {
		err = nlmmap_group_leave(group, socket, extack);
	} else if (!(group->flags & NLMMAP_GROUP_PUBLIC) && !admin) {
		NL_SET_ERR_MSG(extack, "the group is not public: joining takes CAP_NET_ADMIN");
		err = -EPERM;
	} else {
		err = nlmmap_group_join(group, socket, admin, extack);
	}
	mutex_unlock(&nlmmap_group_mutex);
	return err;
}

/* A dump ends early when its skb is full and goes on with the next. */
static int nlmmap_dump_socket(struct nlmmap_socket *socket, void *arg)
{
	const struct nlmmap_answer *answer = arg;

	if (sock_net(socket->sk) != answer->net)
		return 0;
	return nlmmap_put_socket(answer, socket);
}

static int nlmmap_measure_socket(struct nlmmap_socket *socket, void *arg)
{
	struct nlmmap_answer *answer = arg;
	const struct list_head *at;
	u32 bytes = NLMMAP_ANSWER_BYTES;

	if (sock_net(socket->sk) != answer->net)
		return 0;
	list_for_each(at, &socket->memberships)
		bytes += nla_total_size(sizeof(u32));
	answer->largest = max(answer->largest, bytes);
	return 0;
}

static int nlmmap_dump_sockets(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct nlmmap_answer answer = {
		.skb = skb,
		.net = sock_net(cb->skb->sk),
		.user_ns = sk_user_ns(NETLINK_CB(cb->skb).sk),
		.portid = NETLINK_CB(cb->skb).portid,
		.seq = cb->nlh->nlmsg_seq,
		.flags = NLM_F_MULTI,
	};
	unsigned long bucket = cb->args[0], last = cb->args[1];
	int err;

	mutex_lock(&nlmmap_group_mutex);
	err = nlmmap_socket_walk(nlmmap_dump_socket, &bucket, &last, &answer);
	mutex_unlock(&nlmmap_group_mutex);
	cb->args[0] = bucket;
	cb->args[1] = last;
	/* One that fits in no skb would make the dump go on for ever. */
	if (err && !skb->len)
		return err;
	return skb->len;
}

/* So that the dump's buffer is no larger than it has to be: readers come with
 * 8 KiB, or less.
 */
static u32 nlmmap_largest_answer(const struct net *net)
{
	unsigned long bucket = 0, last = 0;
	struct nlmmap_answer answer = { .net = net };

	mutex_lock(&nlmmap_group_mutex);
	nlmmap_socket_walk(nlmmap_measure_socket, &bucket, &last, &answer);
	mutex_unlock(&nlmmap_group_mutex);
	return answer.largest;
}

static int nlmmap_dump_start(struct sk_buff *skb, const struct nlmsghdr *nlh,
			     struct netlink_dump_control *control,
			     struct netlink_ext_ack *extack)
{
	int err = netlink_dump_start(skb->sk, skb, nlh, control);

	if (err == -EBUSY)
		NL_SET_ERR_MSG(extack, "a dump is under way on this socket: read it to its end");
	return err;
}

static int nlmmap_do_socket_get(struct sk_buff *skb, struct nlmsghdr *nlh,
				struct netlink_ext_ack *extack)
{
	bool dump = (nlh->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	struct nlattr *tb[NLMMAP_A_FD + 1] = { };
	struct nlmmap_socket *socket;
	struct socket *sock = NULL;
	struct sk_buff *reply;
	int err;

	if (dump)
		err = nlmsg_parse(nlh, 0, NULL, 0, nlmmap_empty_policy, extack);
	else
		err = nlmsg_parse(nlh, 0, tb, NLMMAP_A_FD, nlmmap_socket_policy, extack);
	if (err)
		return err;
	if (dump) {
		struct netlink_dump_control control = {
			.dump = nlmmap_dump_sockets,
		};

		if (!nlmmap_is_admin(skb)) {
			NL_SET_ERR_MSG(extack, "seeing all sockets takes CAP_NET_ADMIN");
			return -EPERM;
		}
		control.min_dump_alloc = nlmmap_largest_answer(sock_net(skb->sk));
		return nlmmap_dump_start(skb, nlh, &control, extack);
	}
	if (tb[NLMMAP_A_FD]) {
		sock = nlmmap_socket_named(tb[NLMMAP_A_FD], extack);
		if (IS_ERR(sock))
			return PTR_ERR(sock);
	}
	socket = nlmmap_socket_asked(sock ? sock->sk : NETLINK_CB(skb).sk, extack);
	if (IS_ERR(socket)) {
		err = PTR_ERR(socket);
		goto out_put;
	}
	reply = nlmsg_new(nlmmap_socket_answer_bytes(socket->memory.data_bytes), GFP_KERNEL);
	if (!reply) {
		NL_SET_ERR_MSG(extack, "no memory for the answer");
		err = -ENOMEM;
		goto out_put;
	}
	err = nlmmap_answer_socket(skb, nlh, socket, reply);
out_put:
	if (sock)
		sockfd_put(sock);
	return err;
}

static int nlmmap_dump_groups(struct sk_buff *skb, struct netlink_callback *cb)
{
	const struct net *net = sock_net(cb->skb->sk);
	const struct nlmmap_group *group;
	unsigned long at = 0;

	/* Groups are appended; one that goes meanwhile moves the others up, so
	 * one may be missed: then the reader finds NLM_F_DUMP_INTR.
	 */
	mutex_lock(&nlmmap_group_mutex);
	cb->seq = nlmmap_group_generation;
	list_for_each_entry(group, &nlmmap_groups, node) {
		if (group->net != net || at++ < cb->args[0])
			continue;
		if (nlmmap_put_group(skb, group, NETLINK_CB(cb->skb).portid,
				     cb->nlh->nlmsg_seq, NLM_F_MULTI))
			break;
		nl_dump_check_consistent(cb, nlmsg_hdr(skb));
		cb->args[0] = at;
	}
	mutex_unlock(&nlmmap_group_mutex);
	return skb->len;
}

static int nlmmap_do_group_get(struct sk_buff *skb, struct nlmsghdr *nlh,
			       struct netlink_ext_ack *extack)
{
	struct nlattr *tb[NLMMAP_A_GROUP_ID + 1];
	struct nlmmap_group *group;
	struct sk_buff *reply;
	int err;

	err = nlmsg_parse(nlh, 0, tb, NLMMAP_A_GROUP_ID, nlmmap_group_policy, extack);
	if (err)
		return err;
	if ((nlh->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP) {
		struct netlink_dump_control control = {
			.dump = nlmmap_dump_groups,
		};

		return nlmmap_dump_start(skb, nlh, &control, extack);
	}
	reply = nlmsg_new(NLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!reply) {
		NL_SET_ERR_MSG(extack, "no memory for the answer");
		return -ENOMEM;
	}
	mutex_lock(&nlmmap_group_mutex);
	group = nlmmap_group_asked(sock_net(skb->sk), tb, extack);
	if (IS_ERR(group))
		err = PTR_ERR(group);
	else
		err = nlmmap_put_group(reply, group, NETLINK_CB(skb).portid,
				       nlh->nlmsg_seq, 0);
	mutex_unlock(&nlmmap_group_mutex);
	if (err) {
		nlmsg_free(reply);
		return err;
	}
	nlmsg_unicast(skb->sk, reply, NETLINK_CB(skb).portid);
	return 0;
}

static int nlmmap_control_do(struct sk_buff *skb, struct nlmsghdr *nlh,
			     struct netlink_ext_ack *extack)
{
	switch (nlh->nlmsg_type) {
	case NLMMAP_MSG_SETUP:
	case NLMMAP_MSG_ATTACH:
		return nlmmap_do_setup(skb, nlh, extack);
	case NLMMAP_MSG_JOIN:
	case NLMMAP_MSG_LEAVE:
		return nlmmap_do_join(skb, nlh, extack);
	case NLMMAP_MSG_SOCKET_GET:
		return nlmmap_do_socket_get(skb, nlh, extack);
	case NLMMAP_MSG_GROUP_GET:
		return nlmmap_do_group_get(skb, nlh, extack);
	default:
		NL_SET_ERR_MSG(extack, "unknown request");
		return -EOPNOTSUPP;
	}
}

/* netlink_rcv_skb() passes over a message that is cut short or claims a length
 * it does not have, in silence, and netlink_ack() would copy that length.
 */
static void nlmmap_refuse_malformed(struct sk_buff *skb)
{
	struct nlmsgerr *error;
	struct sk_buff *reply;
	struct nlmsghdr *nlh;

	/* Room for the sentence's attribute, too. */
	reply = nlmsg_new(sizeof(*error) + 128, GFP_KERNEL);
	if (!reply)
		return;
	nlh = nlmsg_put(reply, NETLINK_CB(skb).portid, 0, NLMSG_ERROR, sizeof(*error),
			NLM_F_CAPPED | NLM_F_ACK_TLVS);
	if (!nlh) {
		nlmsg_free(reply);
		return;
	}
	error = nlmsg_data(nlh);
	memset(error, 0, sizeof(*error));
	error->error = -EBADMSG;
	memcpy(&error->msg, skb->data, min_t(u32, skb->len, sizeof(error->msg)));
	nlh->nlmsg_seq = error->msg.nlmsg_seq;
	/* Cannot fail: the room is there. */
	nla_put_string(reply, NLMSGERR_ATTR_MSG,
		       "truncated message, or nlmsg_len is wrong");
	nlmsg_end(reply, nlh);
	nlmsg_unicast(skb->sk, reply, NETLINK_CB(skb).portid);
}

/**
 * nlmmap_control_input - everything that is sent to the family's port 0
 * @skb: from user space, in the sender's context; the caller frees it
 *
 * Context: process, may sleep.
 */
void nlmmap_control_input(struct sk_buff *skb)
{
	netlink_rcv_skb(skb, nlmmap_control_do);
	/* What it left is not a message. */
	if (skb->len)
		nlmmap_refuse_malformed(skb);
}
