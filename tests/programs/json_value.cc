// SPDX-License-Identifier: MIT
// json_value POINTER...: reads standard input, of which each line must be a JSON text, and prints
// the values at the JSON pointers of each, separated by tabs; `-` where there is none. Exit status
// 1 if a line is not JSON, or there is no line. For tests in a guest, which has no other reader of
// JSON.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

int main(int argc, char** argv) {
    std::size_t lines = 0;
    for (std::string line; std::getline(std::cin, line); ++lines) {
        const auto object = nlohmann::ordered_json::parse(line, nullptr, false);
        if (object.is_discarded()) {
            std::cerr << "json_value: line " << lines + 1 << " is not JSON: " << line << '\n';
            return 1;
        }
        for (int i = 1; i < argc; ++i) {
            const nlohmann::ordered_json::json_pointer pointer(argv[i]);
            if (i > 1) std::cout << '\t';
            if (!object.contains(pointer)) {
                std::cout << '-';
            } else if (const auto& value = object.at(pointer); value.is_string()) {
                std::cout << value.get<std::string>();
            } else {
                std::cout << value.dump();
            }
        }
        std::cout << '\n';
    }
    if (lines == 0) std::cerr << "json_value: no line came\n";
    return lines == 0 ? 1 : 0;
}
