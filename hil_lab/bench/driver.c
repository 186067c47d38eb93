/* Calls one kernel of a Cortex-A72 program on zeroed memory, without an operating system's
 * library: the table of kernels is generated behind this text. What the TVM runtime gives a
 * kernel is here, for one thread. Nothing reads a clock. */
typedef unsigned long size;
typedef struct { int type; unsigned padding; void *pointer; } Any;
typedef struct {
  void *data;
  int device_type, device_id, dimensions;
  unsigned char code, bits;
  unsigned short lanes;
  long *shape, *strides;
  size offset;
} Tensor;
typedef struct { void *barrier; int tasks; } Group;
typedef int (*Task)(int task, Group *group, void *closure);
typedef int (*Entry)(void *self, Any *arguments, int count, Any *result);
typedef struct { Entry entry; int count; Tensor *tensors; } Kernel;

enum { TENSOR = 7, MOST = 16, ALIGNMENT = 128, WORKSPACE = 16 << 20, EXIT = 93 };

int (*__TVMBackendParallelLaunch)(Task, void *, int);
void *(*__TVMBackendAllocWorkspace)(int, int, size, int, int);
int (*__TVMBackendFreeWorkspace)(int, int, void *);

static char workspace[WORKSPACE] __attribute__((aligned(ALIGNMENT)));
static size used;

void *memset(void *to, int value, size count) {
  char *at = to;
  typedef unsigned long Word __attribute__((may_alias, aligned(1)));
  size word = (unsigned char)value * 0x0101010101010101ul;
  for (; count >= sizeof(Word); count -= sizeof(Word), at += sizeof(Word)) *(Word *)at = word;
  while (count--) *at++ = (char)value;
  return to;
}

void *memcpy(void *to, const void *from, size count) {
  char *a = to;
  const char *b = from;
  while (count--) *a++ = *b++;
  return to;
}

void TVMFFIErrorSetRaisedFromCStrParts(void) {}

static int launch(Task task, void *closure, int tasks) {
  Group group = {0, 1};
  return task(0, &group, closure);
}

static void *allocate(int device, int id, size bytes, int code, int bits) {
  char *at = workspace + used;
  used += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return used <= WORKSPACE ? at : 0;
}

static int release(int device, int id, void *at) {
  used = (size)((char *)at - workspace);
  return 0;
}

static void leave(int status) {
  register long number __asm__("x8") = EXIT;
  register long first __asm__("x0") = status;
  __asm__ volatile("svc 0" ::"r"(number), "r"(first));
}

static int run(const Kernel *kernel) {
  Any arguments[MOST], result = {0, 0, 0};
  for (int i = 0; i < kernel->count; i++)
    arguments[i] = (Any){TENSOR, 0, &kernel->tensors[i]};
  return kernel->entry(0, arguments, kernel->count, &result);
}
