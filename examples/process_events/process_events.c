// SPDX-License-Identifier: GPL-2.0
/*
 * process_events: every fork, exec and exit, published to an nlmmap group
 *
 * An example of a module that produces: it attaches to the scheduler's
 * tracepoints and fills each event in place. process_events.h is the manual of
 * what it says.
 *
 * Lifetime: the group is there before the first probe and until after the last
 * one has returned, so a probe may use it without a reference or a lock.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/binfmts.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <net/net_namespace.h>
#include <net/nlmmap.h>

#include "process_events.h"

/* An attribute with @bytes of payload takes this much. */
#define ATTRIBUTE_BYTES(bytes)	(NLA_HDRLEN + NLMSG_ALIGN(bytes))

#define NUMBER_BYTES	ATTRIBUTE_BYTES(sizeof(u32))
#define COMM_BYTES	ATTRIBUTE_BYTES(PROCESS_EVENTS_COMM_BYTES)
#define FILENAME_BYTES	ATTRIBUTE_BYTES(PROCESS_EVENTS_FILENAME_BYTES)

/* The largest message of each type, struct nlmsghdr included. */
#define FORK_BYTES	(NLMSG_HDRLEN + 4 * NUMBER_BYTES + COMM_BYTES)
#define EXEC_BYTES	(NLMSG_HDRLEN + 3 * NUMBER_BYTES + FILENAME_BYTES + COMM_BYTES)
#define EXIT_BYTES	(NLMSG_HDRLEN + 4 * NUMBER_BYTES + COMM_BYTES)

static struct nlmmap_group *group;

/*
 * How many events of each type there were since the module was loaded, whether
 * anybody listened or not. They do not depend on what nlmmap counts, so that
 * a reader can hold the one against the other.
 */
struct event_counts {
	u64 forks;
	u64 execs;
	u64 exits;
};

static DEFINE_PER_CPU(struct event_counts, counts);

/* Appends @text as a string of at most @max bytes, the NUL included. */
static void put_string(struct nlmmap_writer *writer, u16 type, const char *text,
		       u32 max)
{
	u32 length = strnlen(text, max - 1);
	struct nlattr *attribute;
	char *to;

	attribute = nlmmap_put_fixed(writer, NLA_HDRLEN + length + 1);
	if (!attribute)
		return;
	attribute->nla_len = NLA_HDRLEN + length + 1;
	attribute->nla_type = type;
	to = (char *)(attribute + 1);
	memcpy(to, text, length);
	to[length] = '\0';
}

static void put_comm(struct nlmmap_writer *writer, struct task_struct *task)
{
	/*
	 * No task_lock(): the scheduler's own trace events read it like this.
	 * Somebody who writes it right now may give us a mixture; its last
	 * byte is always NUL.
	 */
	BUILD_BUG_ON(TASK_COMM_LEN != PROCESS_EVENTS_COMM_BYTES);
	put_string(writer, PROCESS_EVENTS_A_COMM, task->comm,
		   PROCESS_EVENTS_COMM_BYTES);
}

static void probe_fork(void *data, struct task_struct *parent,
		       struct task_struct *child)
{
	struct nlmmap_writer writer;

	this_cpu_inc(counts.forks);
	if (!nlmmap_begin(group, &writer, PROCESS_EVENTS_MSG_FORK, FORK_BYTES))
		return;
	nlmmap_put_u32(&writer, PROCESS_EVENTS_A_PARENT_TID, parent->pid);
	nlmmap_put_u32(&writer, PROCESS_EVENTS_A_PARENT_TGID, parent->tgid);
	nlmmap_put_u32(&writer, PROCESS_EVENTS_A_TID, child->pid);
	nlmmap_put_u32(&writer, PROCESS_EVENTS_A_TGID, child->tgid);
	put_comm(&writer, child);
	nlmmap_end(&writer);
}

static void probe_exec(void *data, struct task_struct *task, pid_t old_tid,
		       struct linux_binprm *bprm)
{
	struct nlmmap_writer writer;

	this_cpu_inc(counts.execs);
	if (!nlmmap_begin(group, &writer, PROCESS_EVENTS_MSG_EXEC, EXEC_BYTES))
		return;
	nlmmap_put_u32(&writer, PROCESS_EVENTS_A_TID, task->pid);
	nlmmap_put_u32(&writer, PROCESS_EVENTS_A_TGID, task->tgid);
	nlmmap_put_u32(&writer, PROCESS_EVENTS_A_OLD_TID, old_tid);
	put_string(&writer, PROCESS_EVENTS_A_FILENAME, bprm->filename,
		   PROCESS_EVENTS_FILENAME_BYTES);
	put_comm(&writer, task);
	nlmmap_end(&writer);
}

static void probe_exit(void *data, struct task_struct *task)
{
	struct nlmmap_writer writer;

	this_cpu_inc(counts.exits);
	if (!nlmmap_begin(group, &writer, PROCESS_EVENTS_MSG_EXIT, EXIT_BYTES))
		return;
	nlmmap_put_u32(&writer, PROCESS_EVENTS_A_TID, task->pid);
	nlmmap_put_u32(&writer, PROCESS_EVENTS_A_TGID, task->tgid);
	nlmmap_put_u32(&writer, PROCESS_EVENTS_A_EXIT_CODE, task->exit_code);
	nlmmap_put_u32(&writer, PROCESS_EVENTS_A_EXIT_SIGNAL, task->exit_signal);
	put_comm(&writer, task);
	nlmmap_end(&writer);
}

/* The scheduler's tracepoints are not exported: they are found by name. */
static struct {
	const char *name;
	void *function;
	struct tracepoint *tracepoint;
} probes[] = {
	{ .name = "sched_process_exit", .function = probe_exit },
	{ .name = "sched_process_exec", .function = probe_exec },
	{ .name = "sched_process_fork", .function = probe_fork },
};

static void find_tracepoint(struct tracepoint *tracepoint, void *unused)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		if (!strcmp(tracepoint->name, probes[i].name))
			probes[i].tracepoint = tracepoint;
	}
}

/* Detaches the first @attached probes, the last one first. */
static void detach_probes(size_t attached)
{
	while (attached--)
		tracepoint_probe_unregister(probes[attached].tracepoint,
					    probes[attached].function, NULL);
	/* A probe that runs now may use the group until it returns. */
	tracepoint_synchronize_unregister();
}

static int attach_probes(void)
{
	size_t i;
	int err;

	for_each_kernel_tracepoint(find_tracepoint, NULL);
	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		if (!probes[i].tracepoint) {
			pr_err("this kernel has no tracepoint %s\n",
			       probes[i].name);
			return -ENOENT;
		}
	}

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		err = tracepoint_probe_register(probes[i].tracepoint,
						probes[i].function, NULL);
		if (err) {
			pr_err("cannot attach to the tracepoint %s: %d\n",
			       probes[i].name, err);
			goto err_detach;
		}
	}
	return 0;

err_detach:
	detach_probes(i);
	return err;
}

/* /sys/module/process_events/parameters/{forks,execs,exits}, read-only */
static int get_count(char *buffer, const struct kernel_param *param)
{
	size_t offset = (size_t)param->arg;
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*(u64 *)((u8 *)per_cpu_ptr(&counts, cpu) + offset));
	return sysfs_emit(buffer, "%llu\n", sum);
}

/* Also called for "insmod process_events.ko forks=1", whatever the mode of the file. */
static int refuse_count(const char *value, const struct kernel_param *param)
{
	return -EPERM;
}

static const struct kernel_param_ops count_ops = {
	.set = refuse_count,
	.get = get_count,
};

module_param_cb(forks, &count_ops,
		(void *)offsetof(struct event_counts, forks), 0444);
MODULE_PARM_DESC(forks, "Number of forks since the module was loaded (read-only)");

module_param_cb(execs, &count_ops,
		(void *)offsetof(struct event_counts, execs), 0444);
MODULE_PARM_DESC(execs, "Number of execs since the module was loaded (read-only)");

module_param_cb(exits, &count_ops,
		(void *)offsetof(struct event_counts, exits), 0444);
MODULE_PARM_DESC(exits, "Number of exits since the module was loaded (read-only)");

static int __init process_events_init(void)
{
	const struct nlmmap_group_config config = {
		.name = PROCESS_EVENTS_GROUP,
		.max_bytes = max3(FORK_BYTES, EXEC_BYTES, EXIT_BYTES),
	};
	int err;

	group = nlmmap_group_register(&init_net, &config);
	if (IS_ERR(group)) {
		pr_err("cannot register the group %s: %ld\n", config.name,
		       PTR_ERR(group));
		return PTR_ERR(group);
	}

	err = attach_probes();
	if (err)
		goto err_unregister_group;
	return 0;

err_unregister_group:
	nlmmap_group_unregister(group);
	return err;
}

static void __exit process_events_exit(void)
{
	detach_probes(ARRAY_SIZE(probes));
	nlmmap_group_unregister(group);
}

module_init(process_events_init);
module_exit(process_events_exit);

MODULE_DESCRIPTION("Process events (fork, exec, exit) as an nlmmap group");
MODULE_LICENSE("GPL");
