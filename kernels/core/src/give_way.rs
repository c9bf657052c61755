//! Threads that do what is for later.
#![expect(unsafe_code, reason = "gives the calling thread a low priority")]

/// Of a thread that gives way, where others have 0: about a tenth of their share of a busy processor.
const NICE: i32 = 10;

/// The calling thread gives way to those that serve, for good: to take a priority back needs a privilege. It gets a small share of a busy processor,
/// all of an idle one, and when it is woken it takes a processor from nobody: one of the threads that compute would wait for the
/// other. Refused by the system, all stays as it is.
pub(crate) fn give_way() {
    // SAFETY: all zeros are a valid `sched_param`: the only priority that there is for this policy.
    let param: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: all ask about or change nothing but how the calling thread is scheduled; `param` outlives the call.
    unsafe {
        // A process that was started with less gives way already.
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE.max(now));
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gives_way_does_so_alone() {
        let how = || {
            // SAFETY: asks about the calling thread.
            unsafe { (libc::getpriority(libc::PRIO_PROCESS, 0), libc::sched_getscheduler(0)) }
        };
        let before = how();
        let there = std::thread::spawn(move || {
            give_way();
            how()
        });
        assert_eq!(there.join().unwrap(), (NICE.max(before.0), libc::SCHED_BATCH));
        assert_eq!(how(), before);
    }
}
