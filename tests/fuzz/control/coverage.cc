// SPDX-License-Identifier: MIT
#include "tests/fuzz/control/coverage.h"

#include <fcntl.h>
#include <linux/kcov.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>

namespace fuzz {
namespace {

constexpr const char* kFile = "/sys/kernel/debug/kcov";
constexpr std::size_t kWords = 1 << 17;
// Where x86-64's kernel is linked to, before it is moved at boot.
constexpr std::uint64_t kLinkedTo = 0xffffffff81000000;

[[noreturn]] void fail(const std::string& operation) {
    throw std::system_error(errno, std::system_category(), operation);
}

std::uint64_t kernel_symbol(const std::string& wanted) {
    std::ifstream file("/proc/kallsyms");
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        std::uint64_t address = 0;
        std::string type;
        std::string name;
        words >> std::hex >> address >> type >> name;
        if (name == wanted) {
            return address;
        }
    }
    throw std::runtime_error("/proc/kallsyms does not know " + wanted);
}

}  // namespace

bool has_kcov() { return access(kFile, F_OK) == 0; }

Coverage::Coverage() : fd_(open(kFile, O_RDWR | O_CLOEXEC)), words_(nullptr) {
    if (fd_ < 0) {
        fail(std::string("opening ") + kFile);
    }
    void* area = MAP_FAILED;
    if (ioctl(fd_, KCOV_INIT_TRACE, kWords) == 0) {
        area = mmap(nullptr, kWords * sizeof(*words_), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    }
    if (area == MAP_FAILED) {
        const int error = errno;
        close(fd_);
        errno = error;
        fail("setting KCOV up");
    }
    words_ = static_cast<std::uint64_t*>(area);
}

Coverage::~Coverage() {
    munmap(words_, kWords * sizeof(*words_));
    close(fd_);
}

void Coverage::trace_me() {
    if (ioctl(fd_, KCOV_ENABLE, KCOV_TRACE_PC) != 0) {
        fail("ioctl(KCOV_ENABLE)");
    }
}

void Coverage::reset() { __atomic_store_n(words_, 0, __ATOMIC_RELAXED); }

std::span<const std::uint64_t> Coverage::reached() const {
    const std::uint64_t count = __atomic_load_n(words_, __ATOMIC_RELAXED);
    return {words_ + 1, std::min<std::size_t>(count, kWords - 1)};
}

TextRange module_text(const std::string& module) {
    std::uint64_t begin = 0;
    std::ifstream("/sys/module/" + module + "/sections/.text") >> std::hex >> begin;
    std::uint64_t end = 0;
    // "NAME BYTES REFERENCES USERS STATE ADDRESS"
    std::ifstream modules("/proc/modules");
    for (std::string line; std::getline(modules, line);) {
        std::istringstream words(line);
        std::string name;
        std::uint64_t bytes = 0;
        words >> name >> bytes;
        if (name == module) {
            end = begin + bytes;
        }
    }
    if (begin == 0 || end == 0) {
        throw std::runtime_error("cannot find where the code of " + module + " lies");
    }
    const std::uint64_t moved = kernel_symbol("_text") - kLinkedTo;
    return {.begin = begin - moved, .end = end - moved};
}

}  // namespace fuzz
