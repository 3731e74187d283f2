// SPDX-License-Identifier: GPL-2.0
/*
 * From where the test producer publishes: each context in which kernel modules
 * see their events.
 */
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/kthread.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/tracepoint.h>
#include <asm/apic.h>
#include <asm/nmi.h>

#include "producer.h"

/* Messages published in one go where nothing else can run meanwhile. */
#define CHUNK	32

/* One at a time: there is one tracepoint probe and one NMI handler. */
static DEFINE_MUTEX(special_lock);

static int cpu_check(u32 cpu)
{
	return cpu < nr_cpu_ids && cpu_online(cpu) ? 0 : -EINVAL;
}

static void pause_after_burst(const struct nlmmap_test_publish *request)
{
	if (request->pause_us)
		usleep_range(request->pause_us, request->pause_us + 50);
	cond_resched();
}

/* Process context: the caller's task, or a kernel thread. */
static void publish_paced(struct publisher *publisher, bool (*stop)(void))
{
	u32 burst = publisher->request->burst ?: CHUNK;

	while (publisher_more(publisher) && !stop()) {
		publish_some(publisher, burst);
		pause_after_burst(publisher->request);
	}
}

/* signal_pending() is true as well when the end of an io_uring that the caller
 * once had wants something of it.
 */
static bool caller_was_killed(void)
{
	return task_sigpending(current);
}

static int publish_process(struct publisher *publisher)
{
	publish_paced(publisher, caller_was_killed);
	return 0;
}

/* Kernel threads */

struct producer_thread {
	struct publisher publisher;
	struct task_struct *task;
	struct completion done;
};

static bool thread_shall_stop(void)
{
	return kthread_should_stop();
}

static int thread_main(void *data)
{
	struct producer_thread *thread = data;

	publish_paced(&thread->publisher, thread_shall_stop);
	complete(&thread->done);
	/* Stays for kthread_stop(): the module must not go before its code. */
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static int thread_init(struct producer_thread *thread,
		       const struct test_group *group,
		       const struct nlmmap_test_publish *request, u32 index)
{
	u32 cpu = request->producers > 1 ? index % num_online_cpus() : request->cpu;
	u32 producer = request->first_producer + index;
	int error;

	error = cpu_check(cpu);
	if (error)
		return error;
	error = publisher_init(&thread->publisher, group, request, producer);
	if (error)
		return error;
	init_completion(&thread->done);
	thread->task = kthread_create(thread_main, thread, "nlmmap_test/%u", producer);
	if (IS_ERR(thread->task)) {
		publisher_free(&thread->publisher);
		return PTR_ERR(thread->task);
	}
	kthread_bind(thread->task, cpu);
	return 0;
}

static int publish_threads(const struct test_group *group,
			   struct nlmmap_test_publish *request)
{
	struct producer_thread *threads;
	u32 started, i;
	int error = 0;

	threads = kcalloc(request->producers, sizeof(*threads), GFP_KERNEL);
	if (!threads)
		return -ENOMEM;
	for (started = 0; started < request->producers && !error; started++)
		error = thread_init(&threads[started], group, request, started);
	if (error)
		started--;
	for (i = 0; i < started && !error; i++)
		wake_up_process(threads[i].task);
	/* Killable: see caller_was_killed() for why not interruptible. */
	for (i = 0; i < started && !error; i++)
		error = wait_for_completion_killable(&threads[i].done);
	for (i = 0; i < started; i++) {
		kthread_stop(threads[i].task);
		publisher_report(&threads[i].publisher, request);
		publisher_free(&threads[i].publisher);
	}
	kfree(threads);
	return error ? -EINTR : 0;
}

/* Interrupts of all kinds */

struct softirq_work {
	struct tasklet_struct tasklet;
	struct publisher *publisher;
	struct completion done;
};

static void softirq_publish(struct tasklet_struct *tasklet)
{
	struct softirq_work *work = from_tasklet(work, tasklet, tasklet);

	publish_some(work->publisher, CHUNK);
	complete(&work->done);
}

static int publish_softirq(struct publisher *publisher)
{
	struct softirq_work work = { .publisher = publisher };

	tasklet_setup(&work.tasklet, softirq_publish);
	init_completion(&work.done);
	while (publisher_more(publisher) && !caller_was_killed()) {
		tasklet_schedule(&work.tasklet);
		wait_for_completion(&work.done);
	}
	tasklet_kill(&work.tasklet);
	return 0;
}

struct interrupt_work {
	struct irq_work work;
	struct publisher *publisher;
};

static void interrupt_publish(struct irq_work *irq_work)
{
	struct interrupt_work *work = container_of(irq_work, typeof(*work), work);

	publish_some(work->publisher, CHUNK);
}

static int publish_irq_work(struct publisher *publisher)
{
	struct interrupt_work work = { .publisher = publisher };

	init_irq_work(&work.work, interrupt_publish);
	while (publisher_more(publisher) && !caller_was_killed()) {
		irq_work_queue(&work.work);
		irq_work_sync(&work.work);
		cond_resched();
	}
	return 0;
}

static void ipi_publish(void *publisher)
{
	publish_some(publisher, CHUNK);
}

/* A real interrupt only where the caller runs on another CPU. */
static int publish_ipi(struct publisher *publisher)
{
	u32 cpu = publisher->request->cpu;
	int error = cpu_check(cpu);

	while (!error && publisher_more(publisher) && !caller_was_killed()) {
		error = smp_call_function_single(cpu, ipi_publish, publisher, true);
		cond_resched();
	}
	return error;
}

static int publish_irqs_off(struct publisher *publisher)
{
	while (publisher_more(publisher) && !caller_was_killed()) {
		local_irq_disable();
		publish_some(publisher, CHUNK);
		local_irq_enable();
		cond_resched();
	}
	return 0;
}

/* The scheduler */

static struct tracepoint *sched_switch;

struct switch_work {
	struct publisher *publisher;
	struct task_struct *task;
};

/*
 * Follows one task on and off its CPUs, which never happens on two at once, so
 * the messages have an order.
 */
static void switch_publish(void *data, bool preempt, struct task_struct *prev,
			   struct task_struct *next, unsigned int prev_state)
{
	struct switch_work *work = data;

	if (prev == work->task || next == work->task)
		publish_some(work->publisher, 4);
}

static int publish_sched(struct publisher *publisher)
{
	struct switch_work work = { .publisher = publisher, .task = current };
	int error;

	if (!sched_switch)
		return -EOPNOTSUPP;
	mutex_lock(&special_lock);
	error = tracepoint_probe_register(sched_switch, switch_publish, &work);
	if (!error) {
		while (publisher_more(publisher) && !caller_was_killed())
			usleep_range(20, 40);
		tracepoint_probe_unregister(sched_switch, switch_publish, &work);
		tracepoint_synchronize_unregister();
	}
	mutex_unlock(&special_lock);
	return error;
}

static void find_sched_switch(struct tracepoint *tracepoint, void *unused)
{
	if (!strcmp(tracepoint->name, "sched_switch"))
		sched_switch = tracepoint;
}

/* Non-maskable interrupts */

/* Set: the next NMI on nmi_cpu is ours. */
static struct publisher *nmi_publisher;
static u32 nmi_cpu;

static int nmi_publish(unsigned int type, struct pt_regs *regs)
{
	struct publisher *publisher;

	if (raw_smp_processor_id() != READ_ONCE(nmi_cpu))
		return NMI_DONE;
	/* Pairs with the release in publish_nmi(). */
	publisher = smp_load_acquire(&nmi_publisher);
	if (!publisher)
		return NMI_DONE;
	publish_some(publisher, 1);
	/* Pairs with the acquire in publish_nmi(). */
	smp_store_release(&nmi_publisher, NULL);
	return NMI_HANDLED;
}

static int publish_nmi(struct publisher *publisher)
{
	u32 cpu = publisher->request->cpu;
	int error;

	error = cpu_check(cpu);
	if (error)
		return error;
	mutex_lock(&special_lock);
	WRITE_ONCE(nmi_cpu, cpu);
	while (publisher_more(publisher) && !caller_was_killed()) {
		/* Pairs with the acquire in nmi_publish(). */
		smp_store_release(&nmi_publisher, publisher);
		preempt_disable();
		apic->send_IPI_mask(cpumask_of(cpu), NMI_VECTOR);
		preempt_enable();
		/* Pairs with the release in nmi_publish(). */
		while (smp_load_acquire(&nmi_publisher))
			cpu_relax();
		pause_after_burst(publisher->request);
	}
	mutex_unlock(&special_lock);
	return 0;
}

static int (*const contexts[NLMMAP_TEST_CONTEXTS])(struct publisher *) = {
	[NLMMAP_TEST_PROCESS] = publish_process,
	[NLMMAP_TEST_SOFTIRQ] = publish_softirq,
	[NLMMAP_TEST_IRQ_WORK] = publish_irq_work,
	[NLMMAP_TEST_IPI] = publish_ipi,
	[NLMMAP_TEST_IRQS_OFF] = publish_irqs_off,
	[NLMMAP_TEST_SCHED] = publish_sched,
	[NLMMAP_TEST_NMI] = publish_nmi,
};

int publish_in_context(const struct test_group *group,
		       struct nlmmap_test_publish *request)
{
	struct publisher publisher;
	int error;

	request->accepted = 0;
	request->delivered = 0;
	request->refused = 0;
	request->skipped = 0;
	request->error = 0;
	if (!request->producers || request->producers > NLMMAP_TEST_PRODUCERS_MAX ||
	    request->context >= NLMMAP_TEST_CONTEXTS)
		return -EINVAL;
	if (request->context == NLMMAP_TEST_KTHREAD)
		return publish_threads(group, request);
	if (request->producers != 1)
		return -EINVAL;
	error = publisher_init(&publisher, group, request, request->first_producer);
	if (error)
		return error;
	error = contexts[request->context](&publisher);
	if (!error && publisher_more(&publisher))
		error = -EINTR;
	publisher_report(&publisher, request);
	publisher_free(&publisher);
	return error;
}

int context_init(void)
{
	for_each_kernel_tracepoint(find_sched_switch, NULL);
	return register_nmi_handler(NMI_LOCAL, nmi_publish, 0, "nlmmap_test");
}

void context_exit(void)
{
	unregister_nmi_handler(NMI_LOCAL, "nlmmap_test");
}
