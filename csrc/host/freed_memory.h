// What the C library does with freed host memory.
#pragma once

namespace lesioncore {

// True: the process keeps what it frees, up to 2 GB. False: the library's usual limits, and what is free goes back.
//
// Each step of a restoration frees a hundred megabytes of feature maps and asks for them again. glibc gives them back
// to the system in between, which then hands out zeroed pages one fault at a time: a fifth of a step's time, measured.
// Does nothing with another C library or allocator.
void keep_freed_memory(bool keep);

}  // namespace lesioncore
