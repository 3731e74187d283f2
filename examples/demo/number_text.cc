// SPDX-License-Identifier: MIT
#include "examples/demo/number_text.h"

namespace demo {

std::string grouped(std::int64_t number) {
    const bool negative = number < 0;
    std::string reversed;
    const std::string digits = std::to_string(negative ? -number : number);
    for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit) {
        if ((digit - digits.rbegin()) % 3 == 0 && digit != digits.rbegin()) reversed += ',';
        reversed += *digit;
    }
    if (negative) reversed += '-';
    return {reversed.rbegin(), reversed.rend()};
}

}  // namespace demo
