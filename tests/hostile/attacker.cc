// SPDX-License-Identifier: MIT
#include "tests/hostile/attacker.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "tests/guest/surroundings.h"

namespace hostile {
namespace {

// One failure is one write of at most PIPE_BUF bytes, so that those of several
// processes do not mix; and all together fit the pipe, which nobody reads yet.
constexpr std::size_t kFailureBytes = 3500;
constexpr unsigned kFailures = 15;
// What the child writes when its code returned.
constexpr char kReturned = '\0';

[[noreturn]] void fail(const std::string& operation) {
    throw std::system_error(errno, std::system_category(), operation);
}

void put(int fd, std::string text) {
    if (text.size() > kFailureBytes) {
        text.resize(kFailureBytes);
        text += "...";
    }
    text += '\n';
    if (write(fd, text.data(), text.size()) < 0) {
        // Nobody is left to be told.
        _exit(1);
    }
}

// Tells the parent what fails in the child.
class Teller : public testing::EmptyTestEventListener {
  public:
    explicit Teller(int fd) : fd_(fd) {}
    void OnTestPartResult(const testing::TestPartResult& result) override {
        if (result.passed() || told_ == kFailures) {
            return;
        }
        if (++told_ == kFailures) {
            put(fd_, "(and more)");
            return;
        }
        put(fd_, std::string(result.file_name() != nullptr ? result.file_name() : "?") + ":" +
                     std::to_string(result.line_number()) + ": " +
                     (result.skipped() ? "skipped, which an attack must not be: " : "") +
                     result.message());
    }

  private:
    int fd_;
    unsigned told_ = 0;
};

void write_file(const char* path, const std::string& text) {
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
        fail(std::string("writing ") + path);
    }
    close(fd);
}

void drop_capabilities() {
    for (int capability = 0; capability <= CAP_LAST_CAP; ++capability) {
        // EINVAL: a capability that this kernel does not have.
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL) {
            fail("prctl(PR_CAPBSET_DROP)");
        }
    }
    if (setgroups(0, nullptr) != 0 ||
        setresgid(guest::kSomebody, guest::kSomebody, guest::kSomebody) != 0 ||
        setresuid(guest::kSomebody, guest::kSomebody, guest::kSomebody) != 0) {
        fail("becoming user " + std::to_string(guest::kSomebody));
    }
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, 2> none{};
    if (syscall(SYS_capset, &header, none.data()) != 0) {
        fail("capset");
    }
    // As after a login: who changed user is otherwise hidden from his own
    // debugger, and may not write his own id maps.
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0) {
        fail("prctl(PR_SET_DUMPABLE)");
    }
}

// Where its threads stand in the kernel, for a child that does not end.
std::string stacks_of(pid_t pid) {
    std::string text;
    for (const char* file : {"wchan", "stack", "syscall"}) {
        std::ifstream in("/proc/" + std::to_string(pid) + "/" + file);
        text += std::string(file) + ": " +
                std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()) +
                "\n";
    }
    return text;
}

// True and the status if it ended in time.
bool wait_for(pid_t pid, std::chrono::seconds limit, int& status) {
    const auto end = std::chrono::steady_clock::now() + limit;
    for (;;) {
        const pid_t ended = waitpid(pid, &status, WNOHANG);
        if (ended != 0) {
            return ended == pid;
        }
        if (std::chrono::steady_clock::now() > end) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

}  // namespace

std::string name_of(Attacker attacker) {
    switch (attacker) {
        case Attacker::root:
            return "root";
        case Attacker::user:
            return "user";
        case Attacker::user_namespace:
            return "user_namespace";
    }
    return "nobody";
}

void PrintTo(Attacker attacker, std::ostream* out) { *out << name_of(attacker); }

void become(Attacker attacker) {
    if (attacker == Attacker::root) {
        return;
    }
    drop_capabilities();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        fail("prctl(PR_SET_NO_NEW_PRIVS)");
    }
    if (attacker == Attacker::user) {
        return;
    }
    if (unshare(CLONE_NEWUSER) != 0) {
        fail("unshare(CLONE_NEWUSER)");
    }
    const std::string map = "0 " + std::to_string(guest::kSomebody) + " 1";
    write_file("/proc/self/setgroups", "deny");
    write_file("/proc/self/uid_map", map);
    write_file("/proc/self/gid_map", map);
}

QuietCrashes::QuietCrashes() {
    std::ifstream("/proc/sys/debug/exception-trace") >> before_;
    write_file("/proc/sys/debug/exception-trace", "0");
}

QuietCrashes::~QuietCrashes() {
    std::ofstream("/proc/sys/debug/exception-trace") << before_ << std::flush;
}

Assault::Assault(Attacker attacker, const std::function<void()>& code) : attacker_(attacker) {
    std::array<int, 2> channel{};
    if (pipe2(channel.data(), O_CLOEXEC) != 0 || fcntl(channel[0], F_SETFL, O_NONBLOCK) != 0) {
        fail("pipe2");
    }
    // Else the child would print it once more.
    std::fflush(nullptr);
    pid_ = fork();
    if (pid_ < 0) {
        fail("fork");
    }
    if (pid_ == 0) {
        setsid();
        close(channel[0]);
        auto& listeners = testing::UnitTest::GetInstance()->listeners();
        delete listeners.Release(listeners.default_result_printer());
        listeners.Append(new Teller(channel[1]));
        try {
            become(attacker);
            code();
            if (write(channel[1], &kReturned, 1) == 1) {
                _exit(0);
            }
        } catch (const std::exception& error) {
            put(channel[1], std::string("exception: ") + error.what());
        } catch (...) {
            put(channel[1], "exception of an unknown type");
        }
        _exit(1);
    }
    close(channel[1]);
    told_ = channel[0];
}

Assault::Assault(Assault&& other) noexcept
    : attacker_(other.attacker_),
      pid_(std::exchange(other.pid_, -1)),
      told_(std::exchange(other.told_, -1)) {}

Assault::~Assault() {
    if (pid_ > 0) {
        kill(pid_, SIGKILL);
        kill(-pid_, SIGKILL);
        int status = 0;
        wait_for(pid_, std::chrono::seconds(10), status);
    }
    if (told_ >= 0) {
        close(told_);
    }
}

std::string Assault::told() const {
    std::string said;
    std::array<char, 4096> part{};
    for (;;) {
        const ssize_t got = read(told_, part.data(), part.size());
        if (got <= 0) {
            return said;
        }
        said.append(part.data(), static_cast<std::size_t>(got));
    }
}

std::string Assault::outcome(int expected_signal, std::chrono::seconds limit) {
    int status = 0;
    if (!wait_for(pid_, limit, status)) {
        return told() + "did not end within " + std::to_string(limit.count()) + " s\n" +
               stacks_of(pid_);
    }
    // What it started and left behind goes with it.
    kill(-std::exchange(pid_, -1), SIGKILL);
    std::string said = told();
    const bool returned = said.find(kReturned) != std::string::npos;
    std::erase(said, kReturned);
    const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (signal != expected_signal) {
        said += signal != 0 ? "was ended by signal " + std::to_string(signal) + " (" +
                                  sigdescr_np(signal) + ")\n"
                            : "was not ended by signal " + std::to_string(expected_signal) +
                                  ", as it should have been\n";
    } else if (signal == 0 && !returned && said.empty()) {
        said = "exited with status " + std::to_string(WEXITSTATUS(status)) +
               " before its code returned\n";
    }
    return said;
}

void Assault::finish(int expected_signal, std::chrono::seconds limit) {
    const std::string wrong = outcome(expected_signal, limit);
    if (!wrong.empty()) {
        ADD_FAILURE() << "the attacker (" << name_of(attacker_) << "): " << wrong;
    }
}

std::vector<guest::RawSocket> as_many_as_possible(std::uint32_t ring_bytes, std::size_t at_most) {
    std::vector<guest::RawSocket> sockets;
    while (sockets.size() < at_most) {
        guest::RawSocket socket;
        const guest::Outcome outcome = socket.setup(ring_bytes);
        if (outcome.error != 0) {
            EXPECT_TRUE(guest::refused(outcome, ENOMEM));
            break;
        }
        sockets.push_back(std::move(socket));
    }
    return sockets;
}

Parameter::Parameter(const std::string& name, unsigned value)
    : path_("/sys/module/nlmmap/parameters/" + name) {
    std::ifstream(path_) >> before_;
    write_file(path_.c_str(), std::to_string(value));
}

Parameter::~Parameter() { std::ofstream(path_) << before_ << std::flush; }

Witness::Witness(std::string_view group, const guest::Order& all, std::uint32_t ring_bytes)
    : member_(group, ring_bytes), check_(all), thread_([this] { read(); }) {}

Witness::~Witness() {
    stop_ = true;
    thread_.join();
}

void Witness::read() {
    try {
        while (!stop_) {
            bool any = false;
            while (const auto record = member_.ring.next()) {
                check_.message(record->message());
                any = true;
            }
            missing_ = member_.ring.missing() + check_.missing();
            received_ = check_.received();
            member_.ring.release();
            if (!any) {
                pollfd wait{.fd = member_.socket.fd(), .events = POLLIN, .revents = 0};
                poll(&wait, 1, 50);
            }
        }
    } catch (const std::exception& error) {
        wrong_ = error.what();
        failed_ = true;
    }
}

void Witness::expect_all(std::uint64_t messages) {
    const bool came = guest::eventually([&] { return failed_ || received_ >= messages; });
    if (failed_) {
        ADD_FAILURE() << "an honest reader was given something wrong: " << wrong_;
        return;
    }
    EXPECT_TRUE(came) << "an honest reader sleeps, or waits for what never comes";
    EXPECT_EQ(received_.load(), messages) << "an honest reader's messages";
    EXPECT_EQ(missing_.load(), 0U) << "an honest reader lost messages";
    EXPECT_EQ(member_.ring.lost(), 0U) << "an honest reader's ring counts losses";
}

}  // namespace hostile
