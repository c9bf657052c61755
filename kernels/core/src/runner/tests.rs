use super::*;
use crate::dtype::DType;
use crate::testing::{TinyModel, greedy, step_words};

/// A runner on the tiny model whose results arrive in a channel.
fn start(model: &TinyModel) -> (Runner, Receiver<StepResult>) {
    let (send, results) = mpsc::channel();
    let runner = Runner::create(&model.spec, Box::new(move |result| send.send(result).unwrap())).unwrap();
    (runner, results)
}

fn stop(runner: &Runner) {
    runner.stop().unwrap().join().unwrap();
}

/// Tokens of a prompt continued one step at a time, each step submitted before the result of the one before.
fn generate(model: &TinyModel, params: SeatParams, steps: usize) -> Vec<StepResult> {
    let (runner, results) = start(model);
    runner.open_seat(2, params).unwrap();
    let prompt = [5, 17, 40];
    runner.submit(step_words(0, &[(2, 0, &prompt)], &[2]).words()).unwrap();
    for i in 1..steps {
        let words = step_words(i as i32, &[(2, prompt.len() + i - 1, &[FROM_SEAT])], &[0]).words();
        runner.submit(words).unwrap();
    }
    let results = (0..steps).map(|_| results.recv().unwrap()).collect();
    stop(&runner);
    results
}

#[test]
fn queued_steps_take_the_token_that_their_seat_picked_last() {
    let model = TinyModel::new("reference", DType::F32);
    let queued = generate(&model, greedy(), 6);
    assert!(queued.iter().enumerate().all(|(i, result)| result.error.is_none() && result.step_id == i as i32));
    let picked: Vec<i32> = queued.iter().map(|result| result.tokens[0]).collect();

    let (runner, results) = start(&model);
    runner.open_seat(0, greedy()).unwrap();
    let mut tokens = vec![5, 17, 40];
    for expected in picked {
        runner.submit(step_words(0, &[(0, 0, &tokens)], &[tokens.len() - 1]).words()).unwrap();
        let result = results.recv().unwrap();
        assert_eq!(result.tokens, [expected]);
        tokens.push(expected);
    }
    stop(&runner);
}

#[test]
fn a_seat_freezes_at_max_tokens_and_its_surplus_rows_sample_nothing() {
    let model = TinyModel::new("reference", DType::F32);
    let results = generate(&model, SeatParams { max_tokens: 2, ..greedy() }, 4);
    let finish: Vec<u8> = results.iter().map(|result| result.finish[0]).collect();
    assert_eq!(finish, [0, 2, 0, 0]);
    assert!(results[1].tokens[0] >= 0);
    assert_eq!((results[2].tokens[0], results[3].tokens[0]), (-1, -1));
}

#[test]
fn a_seat_freezes_at_a_stop_id() {
    let model = TinyModel::new("reference", DType::F32);
    let first = generate(&model, greedy(), 1)[0].tokens[0];
    let results = generate(&model, SeatParams { stop_ids: vec![first], max_tokens: 1, ..greedy() }, 2);
    assert_eq!((results[0].tokens[0], results[0].finish[0]), (first, 1));
    assert_eq!(results[1].tokens[0], -1);
}

#[test]
fn a_bad_step_is_a_result_with_an_error_and_the_next_one_runs() {
    let model = TinyModel::new("reference", DType::F32);
    let (runner, results) = start(&model);
    runner.open_seat(0, greedy()).unwrap();
    for (words, with) in [
        (vec![], "header"),
        (vec![1, 42, 0], "header"),
        (step_words(7, &[(1, 0, &[FROM_SEAT])], &[0]).words(), "seat 1 is not open"),
    ] {
        let id = words.get(1).copied().unwrap_or(-1);
        runner.submit(words).unwrap();
        let result = results.recv().unwrap();
        assert_eq!(result.step_id, id);
        assert!(result.tokens.is_empty());
        let failure = result.error.expect("an error");
        assert!(failure.message.contains(with), "{failure}");
    }
    runner.submit(step_words(8, &[(0, 0, &[1])], &[0]).words()).unwrap();
    assert!(results.recv().unwrap().error.is_none());
    stop(&runner);
}

#[test]
fn a_row_that_waits_for_a_token_of_a_failed_step_freezes_its_seat() {
    let model = TinyModel::new("reference", DType::F32);
    let (runner, results) = start(&model);
    runner.open_seat(0, greedy()).unwrap();
    for tokens in [&[FROM_SEAT], &[1]] {
        runner.submit(step_words(7, &[(0, 3, tokens)], &[0]).words()).unwrap();
        let result = results.recv().unwrap();
        assert!(result.error.is_none());
        assert_eq!((result.tokens[0], result.finish[0]), (-1, 0));
    }
    stop(&runner);
}

#[test]
fn a_panic_in_a_step_is_its_error() {
    let model = TinyModel::new("reference", DType::F32);
    let program = Program::compile(&model.spec).unwrap();
    let mut device = Device {
        seats: Seats::new(1),
        program,
        on_result: Box::new(|_| ()),
        stopping: Arc::default(),
        last_end: None,
        was_empty: true,
    };
    let failure = device.guarded(|_| -> Result<()> { panic!("number {}", 3) }).unwrap_err();
    assert_eq!(failure.message, "panic: number 3");
    assert!(device.guarded(|_| Ok(())).is_ok());
}

#[test]
fn rows_of_a_seat_that_was_never_opened_sample_nothing() {
    let model = TinyModel::new("reference", DType::F32);
    let (runner, results) = start(&model);
    runner.submit(step_words(0, &[(3, 0, &[1, 2])], &[1]).words()).unwrap();
    assert_eq!(results.recv().unwrap().tokens, [-1]);
    stop(&runner);
}

#[test]
fn a_reopened_seat_starts_afresh_in_queue_order() {
    let model = TinyModel::new("reference", DType::F32);
    let (runner, results) = start(&model);
    for _ in 0..2 {
        runner.open_seat(0, SeatParams { max_tokens: 1, ..greedy() }).unwrap();
        runner.submit(step_words(0, &[(0, 0, &[1, 2])], &[1]).words()).unwrap();
    }
    let (first, second) = (results.recv().unwrap(), results.recv().unwrap());
    assert_eq!(first.tokens, second.tokens);
    assert_eq!(second.finish, [2]);
    stop(&runner);
}

#[test]
fn seat_parameters_out_of_range_are_refused_by_name() {
    let model = TinyModel::new("reference", DType::F32);
    let (runner, _results) = start(&model);
    for (seat, params, with) in [
        (4, greedy(), "seat is 4, allowed is 0 to 3"),
        (0, SeatParams { temperature: -0.1, ..greedy() }, "temperature is -0.1"),
        (0, SeatParams { temperature: f64::NAN, ..greedy() }, "temperature is NaN"),
        (0, SeatParams { top_p: 0.0, ..greedy() }, "topP is 0"),
        (0, SeatParams { top_p: 1.1, ..greedy() }, "topP is 1.1"),
        (0, SeatParams { min_p: 1.5, ..greedy() }, "minP is 1.5"),
        (0, SeatParams { stop_ids: vec![96], ..greedy() }, "stopIds is 96, allowed is 0 to 95"),
    ] {
        let failure = runner.open_seat(seat, params).unwrap_err();
        assert!(failure.message.contains(with), "{failure}");
    }
    stop(&runner);
}

#[test]
fn a_gap_is_measured_between_queued_steps_only() {
    let model = TinyModel::new("reference", DType::F32);
    // The first result is delivered only when the second step is queued, so the queue is not empty then.
    let (go, wait) = mpsc::channel::<()>();
    let (send, results) = mpsc::channel();
    let mut first = true;
    let deliver = move |result: StepResult| {
        if std::mem::take(&mut first) {
            wait.recv().unwrap();
        }
        send.send(result).unwrap();
    };
    let runner = Runner::create(&model.spec, Box::new(deliver)).unwrap();
    runner.submit(step_words(0, &[(0, 0, &[1])], &[]).words()).unwrap();
    runner.submit(step_words(1, &[(0, 0, &[1])], &[]).words()).unwrap();
    go.send(()).unwrap();
    assert_eq!(results.recv().unwrap().gap, None);
    assert!(results.recv().unwrap().gap.is_some());
    stop(&runner);
}

#[test]
fn stopping_answers_what_is_queued_and_refuses_what_comes() {
    let model = TinyModel::new("reference", DType::F32);
    let (entered, has_entered) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let (send, results) = mpsc::channel();
    let mut first = true;
    let deliver = move |result: StepResult| {
        if std::mem::take(&mut first) {
            entered.send(()).unwrap();
            wait.recv().unwrap();
        }
        send.send(result).unwrap();
    };
    let runner = Runner::create(&model.spec, Box::new(deliver)).unwrap();
    for id in 0..2 {
        runner.submit(step_words(id, &[(0, 0, &[1])], &[]).words()).unwrap();
    }
    let logits = runner.logits(step_words(2, &[(0, 0, &[1])], &[0]).words()).unwrap();
    has_entered.recv().unwrap();
    let thread = runner.stop().unwrap();
    go.send(()).unwrap();
    thread.join().unwrap();
    assert!(results.recv().unwrap().error.is_none());
    assert_eq!(results.recv().unwrap().error.unwrap().message, "the runner was stopped");
    assert!(logits.recv().unwrap().is_err());
    assert!(runner.submit(vec![]).is_err());
    assert!(runner.stop().is_none());
}

#[test]
fn logits_leave_the_seats_alone() {
    let model = TinyModel::new("reference", DType::F32);
    let (runner, results) = start(&model);
    runner.open_seat(0, greedy()).unwrap();
    runner.submit(step_words(0, &[(0, 0, &[5, 17, 40])], &[2]).words()).unwrap();
    let token = results.recv().unwrap().tokens[0];
    let logits = runner.logits(step_words(1, &[(0, 0, &[5, 17, 40])], &[2]).words()).unwrap();
    let logits = logits.recv().unwrap().unwrap();
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    assert_eq!(best as i32, token);
    runner.submit(step_words(2, &[(0, 3, &[FROM_SEAT])], &[0]).words()).unwrap();
    assert!(results.recv().unwrap().error.is_none());
    stop(&runner);
}
