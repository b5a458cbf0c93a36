// Setting of the C library: whether it keeps freed host memory for the next allocation.
#pragma once

namespace lesioncore {

// True: the process keeps what it frees, up to 2 GB. False: the library's usual limits apply again, and free memory
// goes back to the system at once.
//
// Each step of a restoration frees a hundred megabytes of feature maps and asks for them again. glibc gives them back
// to the system in between, which then hands out zeroed pages one fault at a time: a fifth of a step's time, measured.
// With another C library or allocator the function does nothing.
void keep_freed_memory(bool keep);

}  // namespace lesioncore
