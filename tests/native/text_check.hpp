// The part of the kernels' self-check that reads text.
#pragma once

#include <functional>
#include <string>

void check_text(const std::function<void(bool, const std::string&)>& check);
