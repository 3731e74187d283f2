// SPDX-License-Identifier: MIT
#include "tests/hostile/uring.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace hostile {
namespace {

constexpr unsigned kEntries = 8;
constexpr std::uint32_t kBytes = 64;
// Younger than the headers that this may be built with.
constexpr std::uint32_t kSetupNoMmap = 1U << 14;

[[noreturn]] void fail(const std::string& operation) {
    throw std::system_error(errno, std::system_category(), operation);
}

std::uint64_t address(const void* at) { return reinterpret_cast<std::uint64_t>(at); }

io_uring_sqe make(std::uint8_t operation, int fd, std::uint64_t at, std::uint32_t bytes) {
    io_uring_sqe request{};
    request.opcode = operation;
    request.fd = fd;
    request.addr = at;
    request.len = bytes;
    return request;
}

}  // namespace

Uring::Uring()
    : fd_(static_cast<int>(syscall(SYS_io_uring_setup, kEntries, &params_))),
      file_(open("/proc/self/exe", O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0 || file_ < 0) {
        fail("io_uring_setup");
    }
    ring_bytes_ = std::max(params_.sq_off.array + params_.sq_entries * sizeof(std::uint32_t),
                           params_.cq_off.cqes + params_.cq_entries * sizeof(io_uring_cqe));
    void* rings =
        mmap(nullptr, ring_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, IORING_OFF_SQ_RING);
    void* requests = mmap(nullptr, params_.sq_entries * sizeof(io_uring_sqe),
                          PROT_READ | PROT_WRITE, MAP_SHARED, fd_, IORING_OFF_SQES);
    if (rings == MAP_FAILED || requests == MAP_FAILED) {
        fail("mmap of io_uring's queues");
    }
    rings_ = static_cast<std::byte*>(rings);
    requests_ = static_cast<io_uring_sqe*>(requests);
}

Uring::~Uring() {
    munmap(rings_, ring_bytes_);
    munmap(requests_, params_.sq_entries * sizeof(io_uring_sqe));
    close(fd_);
    close(file_);
}

int Uring::run(const io_uring_sqe& request) {
    const auto word = [this](std::uint32_t offset) {
        return reinterpret_cast<std::uint32_t*>(rings_ + offset);
    };
    const std::uint32_t tail = *word(params_.sq_off.tail);
    const std::uint32_t index = tail & *word(params_.sq_off.ring_mask);
    requests_[index] = request;
    word(params_.sq_off.array)[index] = index;
    __atomic_store_n(word(params_.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, fd_, 1, 1, IORING_ENTER_GETEVENTS, nullptr, 0) < 0) {
        fail("io_uring_enter");
    }
    const std::uint32_t head = *word(params_.cq_off.head);
    if (head == __atomic_load_n(word(params_.cq_off.tail), __ATOMIC_ACQUIRE)) {
        throw std::runtime_error("io_uring: no answer");
    }
    const auto* answers = reinterpret_cast<const io_uring_cqe*>(rings_ + params_.cq_off.cqes);
    const int result = answers[head & *word(params_.cq_off.ring_mask)].res;
    __atomic_store_n(word(params_.cq_off.head), head + 1, __ATOMIC_RELEASE);
    return result;
}

std::vector<std::pair<std::string, int>> Uring::read_into(std::byte* at) {
    std::vector<std::pair<std::string, int>> answers;
    answers.emplace_back("READ", run(make(IORING_OP_READ, file_, address(at), 8)));
    iovec part{.iov_base = at, .iov_len = 8};
    answers.emplace_back("READV", run(make(IORING_OP_READV, file_, address(&part), 1)));
    io_uring_sqe fixed = make(IORING_OP_READ_FIXED, file_, address(at), 8);
    answers.emplace_back("READ_FIXED", run(fixed));

    std::array<int, 2> pair{};
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair.data()) != 0) {
        fail("socketpair");
    }
    const std::array<char, 8> bytes{1, 2, 3, 4, 5, 6, 7, 8};
    send(pair[0], bytes.data(), bytes.size(), 0);
    answers.emplace_back("RECV", run(make(IORING_OP_RECV, pair[1], address(at), 8)));
    send(pair[0], bytes.data(), bytes.size(), 0);
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    answers.emplace_back("RECVMSG", run(make(IORING_OP_RECVMSG, pair[1], address(&message), 1)));

    // A buffer that the kernel takes when it needs one.
    io_uring_sqe provide = make(IORING_OP_PROVIDE_BUFFERS, 1, address(at), 8);
    provide.buf_group = 7;
    if (run(provide) >= 0) {
        io_uring_sqe select = make(IORING_OP_READ, file_, 0, 8);
        select.flags = IOSQE_BUFFER_SELECT;
        select.buf_group = 7;
        answers.emplace_back("READ into a provided buffer", run(select));
        io_uring_sqe remove = make(IORING_OP_REMOVE_BUFFERS, 1, 0, 0);
        remove.buf_group = 7;
        run(remove);
    }
    close(pair[0]);
    close(pair[1]);
    return answers;
}

int Uring::read_fixed() {
    return run(make(IORING_OP_READ_FIXED, file_, address(registered_), kBytes));
}

int Uring::register_buffer(std::byte* at, std::size_t bytes) {
    iovec part{.iov_base = at, .iov_len = bytes};
    if (syscall(SYS_io_uring_register, fd_, IORING_REGISTER_BUFFERS, &part, 1) != 0) {
        return -errno;
    }
    registered_ = at;
    return 0;
}

int Uring::register_buffer_ring(std::byte* at) {
    io_uring_buf_reg area{};
    area.ring_addr = address(at);
    area.ring_entries = 8;
    area.bgid = 9;
    return syscall(SYS_io_uring_register, fd_, IORING_REGISTER_PBUF_RING, &area, 1) != 0 ? -errno
                                                                                         : 0;
}

int Uring::make_on(std::byte* queues, std::byte* requests) {
    io_uring_params params{};
    params.flags = kSetupNoMmap;
    // Where the kernel expects the addresses, which older headers call reserved.
    const std::uint64_t queues_at = address(queues);
    const std::uint64_t requests_at = address(requests);
    auto* bytes = reinterpret_cast<std::byte*>(&params);
    std::memcpy(bytes + offsetof(io_uring_params, cq_off) + 32, &queues_at, sizeof(queues_at));
    std::memcpy(bytes + offsetof(io_uring_params, sq_off) + 32, &requests_at, sizeof(requests_at));
    const long fd = syscall(SYS_io_uring_setup, 4, &params);
    if (fd < 0) {
        return -errno;
    }
    close(static_cast<int>(fd));
    return 0;
}

}  // namespace hostile
