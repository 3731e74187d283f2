// SPDX-License-Identifier: MIT
#include "tests/guest/modules.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "tests/guest/surroundings.h"

namespace guest {

int load(const std::string& module, const std::string& parameters) {
    const int file = open(("/modules/" + module + ".ko").c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return errno;
    }
    const int error = syscall(SYS_finit_module, file, parameters.c_str(), 0) ? errno : 0;
    close(file);
    return error;
}

int unload(const std::string& module) {
    return syscall(SYS_delete_module, module.c_str(), O_NONBLOCK) ? errno : 0;
}

bool unloads(const std::string& module) {
    return eventually([&] { return unload(module) != EWOULDBLOCK; });
}

bool loaded(const std::string& module) {
    return access(("/sys/module/" + module + "/refcnt").c_str(), F_OK) == 0;
}

long references(const std::string& module) {
    std::ifstream file("/sys/module/" + module + "/refcnt");
    long count = -1;
    file >> count;
    return count;
}

}  // namespace guest
