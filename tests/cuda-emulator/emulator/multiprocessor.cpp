#include "multiprocessor.h"

#include "device_memory.h"
#include "text.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sys/mman.h>

// Saves what a function must keep and the place to go on, and takes those of another stack. It goes on by a jump: a return
// would miss the processor's own stack of return addresses each time.
extern "C" void cuemu_switch(void** save, void* load);
asm(R"(
.text
.globl cuemu_switch
.hidden cuemu_switch
.type cuemu_switch, @function
cuemu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmp *%rcx
.size cuemu_switch, .-cuemu_switch
)");

namespace cuemu {

thread_local Thread* thread __attribute__((tls_model("initial-exec")));
thread_local Grid grid __attribute__((tls_model("initial-exec")));

namespace {

constexpr size_t STACK = 128 << 10;
constexpr size_t GUARD = 4096;

void fiber_main() {
    multiprocessor().call_kernel();
    multiprocessor().end_fiber();
}

}  // namespace

Multiprocessor& multiprocessor() {
    static thread_local Multiprocessor own;
    return own;
}

Multiprocessor::Multiprocessor() : fibers(MOST_THREADS), warps{} {
    void* memory = mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) abort();
    stacks = static_cast<char*>(memory);
}

Multiprocessor::~Multiprocessor() { munmap(stacks, STACK * MOST_THREADS); }

bool Multiprocessor::run(const Launch& launched, unsigned block) {
    prepare(launched, block);
    Fiber* first = pick();
    thread = first;
    cuemu_switch(&main_stack_pointer, first->stack_pointer);
    thread = nullptr;
    return !failed;
}

void Multiprocessor::prepare(const Launch& launched, unsigned block) {
    launch = &launched;
    failed = false;
    block_number = block;
    random = Random(config().seed ^ (uint64_t(launched.operation) << 32 | block));
    atomic = nullptr;
    shared.begin_block(launched);
    grid.block = {block % launched.grid.x, block / launched.grid.x % launched.grid.y, block / launched.grid.x / launched.grid.y};
    grid.block_dim = launched.block;
    grid.grid_dim = launched.grid;
    grid.dynamic_shared = shared.dynamic();
    live = launched.num_threads();
    num_warps = (live + 31) / 32;
    at_barrier = current_warp = warps_ready = 0;
    for (unsigned w = 0; w < num_warps; w++) {
        unsigned lanes = live - w * 32;
        warps[w] = {lanes >= 32 ? ~0u : (1u << lanes) - 1, 0, 0, 0, warps[w].epoch + 1};
        wake(w, warps[w].alive);
    }
    for (; num_guarded < live; num_guarded++) mprotect(stacks + num_guarded * STACK, GUARD, PROT_NONE);
    for (unsigned i = 0; i < live; i++) start_fiber(i);
}

void Multiprocessor::start_fiber(unsigned linear) {
    Fiber& fiber = fibers[linear];
    const dim3& size = launch->block;
    fiber.index = {linear % size.x, linear / size.x % size.y, linear / size.x / size.y};
    fiber.linear = linear;
    fiber.lane = linear % 32;
    fiber.warp = linear / 32;
    fiber.state = Fiber::State::ready;
    fiber.call = Call::none;
    fiber.copies.clear();
    // Tops at different places of their pages, else all fibers fight for the same lines of the cache.
    auto** top = reinterpret_cast<void**>(stacks + (linear + 1) * STACK - 64 - linear % 61 * 192);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(fiber_main);
    for (int saved = 0; saved < 6; saved++) *--top = nullptr;
    fiber.stack_pointer = top;
}

Fiber* Multiprocessor::pick() {
    if (warps_ready == 0) return nullptr;
    auto any = [this](unsigned set) {
        for (unsigned skip = random.below(unsigned(__builtin_popcount(set))); skip > 0; skip--) set &= set - 1;
        return unsigned(__builtin_ctz(set));
    };
    unsigned w = current_warp;
    unsigned lane;
    if (config().threads == Threads::first) {
        if (warps[w].ready == 0) w = unsigned(__builtin_ctz(warps_ready));
        lane = unsigned(__builtin_ctz(warps[w].ready));
    } else {
        if (config().threads == Threads::random || warps[w].ready == 0) w = any(warps_ready);
        lane = any(warps[w].ready);
    }
    current_warp = w;
    warps[w].ready &= ~(1u << lane);
    if (warps[w].ready == 0) warps_ready &= ~(1u << w);
    return &fibers[w * 32 + lane];
}

void Multiprocessor::yield() {
    Fiber& from = current();
    Fiber* to = pick();
    if (to == nullptr) deadlock();
    if (to == &from) return;
    thread = to;
    cuemu_switch(&from.stack_pointer, to->stack_pointer);
}

void Multiprocessor::wake(unsigned warp, unsigned lanes) {
    if (lanes == 0) return;
    warps[warp].ready |= lanes;
    warps_ready |= 1u << warp;
}

void Multiprocessor::barrier(const void* site) {
    Fiber& fiber = current();
    fiber.call = Call::sync_threads;
    fiber.mask = 0;
    fiber.site = site;
    fiber.state = Fiber::State::waiting;
    warps[fiber.warp].at_barrier |= 1u << fiber.lane;
    if (++at_barrier == live) release_barrier();
    yield();
}

void Multiprocessor::release_barrier() {
    at_barrier = 0;
    shared.next_epoch();
    for (unsigned w = 0; w < num_warps; w++) {
        unsigned lanes = warps[w].at_barrier;
        warps[w].at_barrier = 0;
        for (unsigned left = lanes; left != 0; left &= left - 1)
            fibers[w * 32 + unsigned(__builtin_ctz(left))].state = Fiber::State::ready;
        wake(w, lanes);
    }
}

void Multiprocessor::meet(Fiber& fiber) {
    Warp& warp = warps[fiber.warp];
    if ((fiber.mask >> fiber.lane & 1) == 0)
        fault(text("%s: lane %u is not in its own mask %08x (%s)", name_of(fiber.call), fiber.lane, fiber.mask, source_line(fiber.site).c_str()));
    fiber.state = Fiber::State::waiting;
    warp.arrived |= 1u << fiber.lane;
    complete(warp, &fibers[fiber.warp * 32], fiber.lane);
    yield();
}

/// Whether all live lanes of this lane's mask are there; then their call is done and they go on.
bool Multiprocessor::complete(Warp& warp, Fiber* lanes, unsigned lane) {
    const Fiber& fiber = lanes[lane];
    unsigned needed = fiber.mask & warp.alive;
    if ((warp.arrived & needed) != needed) return false;
    for (unsigned left = needed; left != 0; left &= left - 1) {
        const Fiber& other = lanes[__builtin_ctz(left)];
        if (other.call == fiber.call && (other.mask & warp.alive) == needed) continue;
        fault(text("warp diverged: lane %u in %s with mask %08x (%s), lane %u in %s with mask %08x (%s)", fiber.lane,
                   name_of(fiber.call), fiber.mask, source_line(fiber.site).c_str(), other.lane, name_of(other.call), other.mask,
                   source_line(other.site).c_str()));
    }
    compute(fiber.call, lanes, needed);
    if (fiber.call == Call::sync_warp) warp.epoch++;
    warp.arrived &= ~needed;
    for (unsigned left = needed; left != 0; left &= left - 1) lanes[__builtin_ctz(left)].state = Fiber::State::ready;
    wake(fiber.warp, needed);
    return true;
}

void Multiprocessor::end_fiber() {
    Fiber& fiber = current();
    if (launch->checked && fiber.copies.copies_done < fiber.copies.copies.size()) {
        const void* site = fiber.copies.copies[fiber.copies.copies_done].site;
        fault(text("the thread ended with a cp.async that was not waited for (%s)", source_line(site).c_str()));
    }
    Warp& warp = warps[fiber.warp];
    warp.alive &= ~(1u << fiber.lane);
    fiber.state = Fiber::State::ended;
    live--;
    // A thread that has ended counts as arrived everywhere.
    if (live > 0 && at_barrier == live) release_barrier();
    for (unsigned left = warp.arrived; left != 0; left &= left - 1)
        if (complete(warp, &fibers[fiber.warp * 32], unsigned(__builtin_ctz(left)))) break;
    void* abandoned;
    if (live == 0) {
        thread = nullptr;
        cuemu_switch(&abandoned, main_stack_pointer);
    }
    Fiber* next = pick();
    if (next == nullptr) deadlock();
    thread = next;
    cuemu_switch(&abandoned, next->stack_pointer);
    abort();
}

void Multiprocessor::deadlock() {
    std::map<std::pair<Call, const void*>, std::vector<const Fiber*>> waiting;
    for (unsigned i = 0; i < num_warps * 32; i++)
        if (fibers[i].state == Fiber::State::waiting) waiting[{fibers[i].call, fibers[i].site}].push_back(&fibers[i]);
    std::string all;
    for (const auto& [where, who] : waiting)
        all += text(" %zu in %s (%s), the first is thread %u;", who.size(), name_of(where.first), source_line(where.second).c_str(), who[0]->linear);
    fault(text("deadlock: %u threads wait and none can go on:%s", live, all.c_str()));
}

/// The block is given up: its fibers stand where they are and are never run again.
void Multiprocessor::fault(const std::string& what) {
    unsigned linear = thread == nullptr ? 0 : thread->linear;
    error = text("kernel %s, block (%u,%u,%u), thread %u: ", launch->kernel->name, grid.block.x, grid.block.y, grid.block.z, linear) + what;
    failed = true;
    thread = nullptr;
    void* abandoned;
    cuemu_switch(&abandoned, main_stack_pointer);
    abort();
}

void Multiprocessor::access(const Fiber& fiber, const void* address, size_t bytes, bool is_write, const void* site) {
    auto* byte = static_cast<const char*>(address);
    if (size_t(byte - stacks) < STACK * MOST_THREADS || size_t(byte - reinterpret_cast<char*>(fibers.data())) < sizeof(Fiber) * MOST_THREADS ||
        size_t(byte - reinterpret_cast<char*>(&grid)) < sizeof grid || size_t(byte - reinterpret_cast<char*>(&thread)) < sizeof thread)
        return;
    bool is_atomic = address == atomic;
    if (is_atomic && is_write) atomic = nullptr;
    if (reinterpret_cast<uintptr_t>(address) % bytes != 0)
        fault(text("misaligned %s of %zu bytes (%s)", is_write ? "write" : "read", bytes, source_line(site).c_str()));
    std::string wrong;
    if (shared.holds(address)) wrong = shared.check(fiber, warps[fiber.warp], address, bytes, is_write, is_atomic);
    else wrong = device_memory().check_kernel(address, bytes, {launch->operation, block_number, is_write, is_atomic}, *launch);
    if (!wrong.empty()) fault(text("%s (%s)", wrong.c_str(), source_line(site).c_str()));
}

}  // namespace cuemu
