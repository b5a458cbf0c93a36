#include "host/freed_memory.h"

#include <climits>
#ifdef __linux__
#include <malloc.h>
#endif

namespace lesioncore {

void keep_freed_memory([[maybe_unused]] bool keep) {
#ifdef __GLIBC__
  // The limits that glibc's own adaptation ends at: larger blocks than the first always come from the system.
  constexpr int kLargestFromHeap = 32 << 20;
  constexpr int kUsualTrim = 2 * kLargestFromHeap;
  mallopt(M_MMAP_THRESHOLD, kLargestFromHeap);
  mallopt(M_TRIM_THRESHOLD, keep ? INT_MAX : kUsualTrim);
  if (!keep) malloc_trim(0);
#endif
}

}  // namespace lesioncore
