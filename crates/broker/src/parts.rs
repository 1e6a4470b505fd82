//! Changes that may be more than one transaction holds.

use tidegate_store::Transaction;

/// Transactions that go to the journal in order, with nothing in between; the last is still open.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    closed: Vec<Transaction>,
    pub(crate) open: Transaction,
}

impl Parts {
    /// Goes on with a transaction.
    pub(crate) fn of(open: Transaction) -> Self {
        Self { closed: Vec::new(), open }
    }

    /// Returns how large all of them are together.
    pub(crate) fn bytes(&self) -> usize {
        let closed: usize = self.closed.iter().map(Transaction::encoded_len).sum();
        closed + self.open.encoded_len()
    }

    /// Begins another one if the open one holds more than `bytes`.
    pub(crate) fn cut(&mut self, bytes: usize) {
        if self.open.encoded_len() > bytes {
            self.closed.push(std::mem::take(&mut self.open));
        }
    }

    /// Returns those that hold something.
    pub(crate) fn into_transactions(self) -> Vec<Transaction> {
        let Self { mut closed, open } = self;
        if !open.is_empty() {
            closed.push(open);
        }
        closed
    }
}
