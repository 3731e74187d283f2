// SPDX-License-Identifier: GPL-2.0
/*
 * nlmmap_test: a producer that tests tell what to publish
 *
 * Groups and the device. publish.c has what a message is, context.c from where
 * it is published.
 *
 * Locks and lifetimes: groups_lock protects the list of groups and users of
 * each. A group is unregistered by whoever took it off the list, after its
 * users have left: a publisher looks at stopping before each message.
 */
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nsproxy.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <net/net_namespace.h>
#include <net/nlmmap.h>

#include "producer.h"

static LIST_HEAD(groups);
static DEFINE_MUTEX(groups_lock);
static DECLARE_WAIT_QUEUE_HEAD(groups_idle);

static struct test_group *group_get(struct file *file, u32 id)
{
	struct test_group *group;

	mutex_lock(&groups_lock);
	list_for_each_entry(group, &groups, list) {
		if (group->file == file && nlmmap_group_id(group->group) == id) {
			WRITE_ONCE(group->users, group->users + 1);
			mutex_unlock(&groups_lock);
			return group;
		}
	}
	mutex_unlock(&groups_lock);
	return NULL;
}

static void group_put(struct test_group *group)
{
	mutex_lock(&groups_lock);
	WRITE_ONCE(group->users, group->users - 1);
	if (!group->users)
		wake_up_all(&groups_idle);
	mutex_unlock(&groups_lock);
}

/* @group is off the list. */
static void group_free(struct test_group *group)
{
	WRITE_ONCE(group->stopping, true);
	wait_event(groups_idle, !READ_ONCE(group->users));
	/* Whoever left last may still hold the lock, and look at the group. */
	mutex_lock(&groups_lock);
	mutex_unlock(&groups_lock);
	nlmmap_group_unregister(group->group);
	kfree(group);
}

/* Those of one file, of one network namespace, or of one number; 0: any. */
static int groups_release(struct file *file, struct net *net, u32 id)
{
	struct test_group *group, *next;
	LIST_HEAD(chosen);

	mutex_lock(&groups_lock);
	list_for_each_entry_safe(group, next, &groups, list) {
		if (file && group->file != file)
			continue;
		if (net && group->net != net)
			continue;
		if (net && group->keep) {
			group->net = NULL;
			continue;
		}
		if (id && nlmmap_group_id(group->group) != id)
			continue;
		list_move(&group->list, &chosen);
	}
	mutex_unlock(&groups_lock);

	if (list_empty(&chosen))
		return -ENOENT;
	list_for_each_entry_safe(group, next, &chosen, list) {
		list_del(&group->list);
		group_free(group);
	}
	return 0;
}

static long test_register(struct file *file, void __user *argument)
{
	struct nlmmap_group_config config = {};
	struct nlmmap_test_group wanted;
	struct test_group *group;
	int error;

	if (copy_from_user(&wanted, argument, sizeof(wanted)))
		return -EFAULT;
	wanted.name[sizeof(wanted.name) - 1] = '\0';
	config.name = wanted.name;
	config.flags = wanted.flags;
	config.max_bytes = wanted.max_bytes;

	group = kzalloc(sizeof(*group), GFP_KERNEL);
	if (!group)
		return -ENOMEM;
	group->file = file;
	group->keep = wanted.keep;
	group->net = current->nsproxy->net_ns;
	group->group = nlmmap_group_register(group->net, &config);
	if (IS_ERR(group->group)) {
		error = PTR_ERR(group->group);
		goto err_free;
	}
	wanted.id = nlmmap_group_id(group->group);
	if (copy_to_user(argument, &wanted, sizeof(wanted))) {
		error = -EFAULT;
		goto err_unregister;
	}
	mutex_lock(&groups_lock);
	list_add_tail(&group->list, &groups);
	mutex_unlock(&groups_lock);
	return 0;

err_unregister:
	nlmmap_group_unregister(group->group);
err_free:
	kfree(group);
	return error;
}

static long test_publish(struct file *file, void __user *argument)
{
	struct nlmmap_test_publish request;
	struct test_group *group;
	long result;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	group = group_get(file, request.group);
	if (!group)
		return -ENOENT;
	result = publish_in_context(group, &request);
	if (!result && READ_ONCE(group->stopping))
		result = -ECANCELED;
	group_put(group);
	if (copy_to_user(argument, &request, sizeof(request)))
		return -EFAULT;
	return result;
}

static long test_datagram(struct file *file, void __user *argument)
{
	struct nlmmap_test_datagram request;
	struct test_group *group;
	void *bytes;
	long result;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (request.len > NLMMAP_TEST_DATAGRAM_MAX)
		return -E2BIG;
	bytes = vmemdup_user(u64_to_user_ptr(request.bytes), request.len);
	if (IS_ERR(bytes))
		return PTR_ERR(bytes);
	group = group_get(file, request.group);
	if (group) {
		result = nlmmap_publish(group->group, bytes, request.len);
		group_put(group);
	} else {
		result = -ENOENT;
	}
	kvfree(bytes);
	return result;
}

static long test_ioctl(struct file *file, unsigned int command,
		       unsigned long argument)
{
	struct test_group *group;
	long result;

	switch (command) {
	case NLMMAP_TEST_REGISTER:
		return test_register(file, (void __user *)argument);
	case NLMMAP_TEST_UNREGISTER:
		return argument ? groups_release(file, NULL, argument) : -ENOENT;
	case NLMMAP_TEST_LISTENERS:
		group = group_get(file, argument);
		if (!group)
			return -ENOENT;
		result = nlmmap_group_has_listeners(group->group);
		group_put(group);
		return result;
	case NLMMAP_TEST_PUBLISH:
		return test_publish(file, (void __user *)argument);
	case NLMMAP_TEST_DATAGRAM:
		return test_datagram(file, (void __user *)argument);
	default:
		return -ENOTTY;
	}
}

static int test_release(struct inode *inode, struct file *file)
{
	groups_release(file, NULL, 0);
	return 0;
}

static const struct file_operations test_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = test_ioctl,
	.release = test_release,
};

/* Unprivileged tests get their groups from a file that root opened. */
static struct miscdevice test_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "nlmmap_test",
	.fops = &test_fops,
	.mode = 0600,
};

static void __net_exit test_net_exit(struct net *net)
{
	groups_release(NULL, net, 0);
}

static struct pernet_operations test_net_ops = {
	.exit = test_net_exit,
};

static int __init test_init(void)
{
	int error;

	error = context_init();
	if (error)
		return error;
	error = register_pernet_subsys(&test_net_ops);
	if (error)
		goto err_context;
	error = misc_register(&test_device);
	if (error)
		goto err_pernet;
	return 0;

err_pernet:
	unregister_pernet_subsys(&test_net_ops);
err_context:
	context_exit();
	return error;
}

static void __exit test_exit(void)
{
	misc_deregister(&test_device);
	unregister_pernet_subsys(&test_net_ops);
	context_exit();
}

module_init(test_init);
module_exit(test_exit);

MODULE_DESCRIPTION("Producer for the tests of nlmmap");
MODULE_LICENSE("GPL");
