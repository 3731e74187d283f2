// SPDX-License-Identifier: GPL-2.0
/*
 * The pages under a ring, and who is charged for them
 *
 * No locks: a struct nlmmap_memory does not change between its set-up and its
 * end, which its owner orders.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "memory.h"

static void nlmmap_pages_free(struct page **pages, u32 count)
{
	while (count--)
		__free_page(pages[count]);
	kvfree(pages);
}

/**
 * nlmmap_memory_charge - count pages as locked memory of the current user
 * @memory: zeroed
 * @data_bytes: of the ring that is to be allocated
 *
 * Before the pages exist, so that nobody has more than the limit even for a
 * moment. The user that sets a ring up is charged until the ring is freed,
 * wherever the socket goes in between.
 *
 * Context: process.
 * Return: 0, or -ENOMEM if that is over RLIMIT_MEMLOCK and the caller has no
 * CAP_IPC_LOCK.
 */
int nlmmap_memory_charge(struct nlmmap_memory *memory, u32 data_bytes)
{
	u32 count = NLMMAP_CONTROL_PAGES + (data_bytes >> PAGE_SHIFT);
	struct user_struct *user = get_uid(current_user());
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	long locked = atomic_long_read(&user->locked_vm);

	/* Added only if it fits, so that a request which is refused does not
	 * make another one fail beside it.
	 */
	do {
		if (locked + count > limit && !capable(CAP_IPC_LOCK)) {
			free_uid(user);
			return -ENOMEM;
		}
	} while (!atomic_long_try_cmpxchg(&user->locked_vm, &locked, locked + count));
	memory->charged = user;
	memory->charged_pages = count;
	return 0;
}

/**
 * nlmmap_memory_uncharge - undo nlmmap_memory_charge(), if it was done
 * @memory: charged, or zeroed
 *
 * Context: any.
 */
void nlmmap_memory_uncharge(struct nlmmap_memory *memory)
{
	if (!memory->charged)
		return;
	atomic_long_sub(memory->charged_pages, &memory->charged->locked_vm);
	free_uid(memory->charged);
	memory->charged = NULL;
}

/**
 * nlmmap_memory_alloc - get zeroed pages and map them, the data twice
 * @memory: what to fill, charged or zeroed; nlmmap_memory_free() undoes it
 * @data_bytes: a power of two, at least a page
 * @gfp: GFP_KERNEL_ACCOUNT to count the pages against the caller's memory
 *	cgroup, or GFP_KERNEL
 *
 * Context: process, may sleep.
 * Return: 0, -ENOMEM, or -EINTR if the caller is being killed.
 */
int nlmmap_memory_alloc(struct nlmmap_memory *memory, u32 data_bytes, gfp_t gfp)
{
	u32 data_pages = data_bytes >> PAGE_SHIFT;
	u32 count = NLMMAP_CONTROL_PAGES + data_pages;
	int err = -ENOMEM;
	struct page **pages;
	u32 got;

	/* One array for both: the tail repeats the data for vmap(). */
	pages = kvmalloc_array(count + data_pages, sizeof(*pages), gfp | __GFP_NOWARN);
	if (!pages)
		return -ENOMEM;

	for (got = 0; got < count; got++) {
		if (fatal_signal_pending(current)) {
			err = -EINTR;
			goto err_free_pages;
		}
		pages[got] = alloc_page(gfp | __GFP_ZERO | __GFP_RETRY_MAYFAIL | __GFP_NOWARN);
		if (!pages[got])
			goto err_free_pages;
		if (got >= NLMMAP_CONTROL_PAGES)
			pages[got + data_pages] = pages[got];
		cond_resched();
	}

	memory->address = vmap(pages, count + data_pages, VM_MAP, PAGE_KERNEL);
	if (!memory->address)
		goto err_free_pages;

	memory->pages = pages;
	memory->page_count = count;
	memory->data_bytes = data_bytes;
	return 0;

err_free_pages:
	nlmmap_pages_free(pages, got);
	return err;
}

/**
 * nlmmap_memory_free - undo nlmmap_memory_alloc() and nlmmap_memory_charge()
 * @memory: nothing in the kernel uses it any more. A page that a user mapping
 *	still holds lives on until that goes.
 *
 * Context: process, may sleep.
 */
void nlmmap_memory_free(struct nlmmap_memory *memory)
{
	vunmap(memory->address);
	nlmmap_pages_free(memory->pages, memory->page_count);
	nlmmap_memory_uncharge(memory);
}

/**
 * nlmmap_memory_page - the page at a place of the ring's file
 * @memory: allocated
 * @index: pages from the ring's beginning in the file: consumer, producer,
 *	data, data again
 *
 * Return: the page, not referenced; NULL beyond the end.
 */
struct page *nlmmap_memory_page(const struct nlmmap_memory *memory,
				unsigned long index)
{
	unsigned long data_pages = memory->data_bytes >> PAGE_SHIFT;

	if (index >= memory->page_count + data_pages)
		return NULL;
	if (index >= memory->page_count)
		index -= data_pages;
	return memory->pages[index];
}

/**
 * nlmmap_memory_map - put all pages into a user mapping at once
 * @memory: allocated
 * @vma: covers nothing but this ring, from its vm_pgoff on
 *
 * So a reader never faults.
 *
 * Context: process, the mmap lock held for writing.
 * Return: 0 or what vm_insert_pages() says.
 */
int nlmmap_memory_map(const struct nlmmap_memory *memory,
		      struct vm_area_struct *vma)
{
	unsigned long index = vma->vm_pgoff;
	unsigned long count = vma_pages(vma);

	/* The array goes on with the data pages again: no need to split. */
	if (index + count > memory->page_count + (memory->data_bytes >> PAGE_SHIFT))
		return -EINVAL;
	return vm_insert_pages(vma, vma->vm_start, memory->pages + index, &count);
}
