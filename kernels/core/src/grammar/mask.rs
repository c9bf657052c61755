//! The tokens that may come next.

/// One bit a token, of the tokenizer's vocabulary: at least one is set. Ids past it are not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u32>,
}

const BITS: usize = u32::BITS as usize;

impl Mask {
    /// From words of 32 tokens, the lowest bit first; none where no bit is set.
    pub(super) fn new(words: Vec<u32>) -> Option<Self> {
        words.iter().any(|&word| word != 0).then_some(Self { words })
    }

    /// Whether a token may come.
    pub fn allows(&self, id: usize) -> bool {
        self.words.get(id / BITS).is_some_and(|word| word >> (id % BITS) & 1 == 1)
    }

    /// How many may come.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Those that may come, ascending.
    pub fn ids(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(i, &word)| {
            (0..BITS).filter(move |bit| word >> bit & 1 == 1).map(move |bit| i * BITS + bit)
        })
    }

    /// The lowest.
    pub fn lowest(&self) -> usize {
        self.ids().next().unwrap_or(0)
    }

    /// The only one, if nothing else may come.
    pub fn only(&self) -> Option<usize> {
        (self.count() == 1).then(|| self.lowest())
    }

    /// Of those that may come, one for each number.
    pub fn choose(&self, number: usize) -> usize {
        self.ids().nth(number % self.count()).unwrap_or(0)
    }

    /// Makes the logits of all others minus infinity.
    pub fn apply(&self, logits: &mut [f32]) {
        let words = self.words.iter().copied().chain(std::iter::repeat(0));
        for (logits, word) in logits.chunks_mut(BITS).zip(words) {
            match word {
                u32::MAX => {}
                0 => logits.fill(f32::NEG_INFINITY),
                _ => {
                    for (bit, logit) in logits.iter_mut().enumerate() {
                        if word >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(bits: &[bool]) -> Option<Mask> {
        let words = bits.chunks(BITS).map(|bits| {
            bits.iter().enumerate().map(|(i, &bit)| u32::from(bit) << i).fold(0, |word, bit| word | bit)
        });
        Mask::new(words.collect())
    }

    proptest! {
        #[test]
        fn all_that_is_asked_of_a_mask_is_as_its_bits_say(
            bits in proptest::collection::vec(any::<bool>(), 1..100),
            more in 0..70_usize,
            number in any::<usize>(),
        ) {
            let set: Vec<usize> = (0..bits.len()).filter(|&i| bits[i]).collect();
            let Some(mask) = mask(&bits) else {
                prop_assert!(set.is_empty());
                return Ok(());
            };
            prop_assert_eq!(mask.ids().collect::<Vec<_>>(), set.clone());
            prop_assert_eq!(mask.count(), set.len());
            prop_assert_eq!(mask.lowest(), set[0]);
            prop_assert_eq!(mask.only(), (set.len() == 1).then(|| set[0]));
            prop_assert_eq!(mask.choose(number), set[number % set.len()]);
            let mut logits = vec![1.0; bits.len() + more];
            mask.apply(&mut logits);
            for (id, logit) in logits.into_iter().enumerate() {
                prop_assert_eq!(mask.allows(id), set.contains(&id));
                prop_assert_eq!(logit, if set.contains(&id) { 1.0 } else { f32::NEG_INFINITY });
            }
        }
    }

    #[test]
    fn a_mask_that_allows_nothing_is_none() {
        assert_eq!(mask(&[false; 40]), None);
    }
}
