//! A small journal file, whole and right, to start from: journald's own have megabytes of tables.

/// How values are kept in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Plain,
    Lz4,
    Zstd,
}

struct Builder {
    bytes: Vec<u8>,
    is_compact: bool,
    /// Names, where they stand.
    fields: Vec<(Vec<u8>, usize)>,
    /// Values, where they stand, and their entries.
    values: Vec<(Vec<u8>, usize, Vec<u64>)>,
}

const FIELD_TABLE: usize = 208;
const BUCKETS: usize = 2;

/// A journal of these entries.
#[must_use]
pub fn journal(entries: &[&[&[u8]]], is_compact: bool, kept: Kept) -> Vec<u8> {
    let mut builder = Builder { bytes: vec![0; 208], is_compact, fields: Vec::new(), values: Vec::new() };
    builder.object(5, 0, &[0; BUCKETS * 16]);
    let mut offsets = Vec::new();
    for (number, fields) in entries.iter().enumerate() {
        let items: Vec<usize> = fields.iter().map(|payload| builder.value(payload, kept)).collect();
        let mut body = Vec::new();
        for word in [number as u64 + 1, 1_000_000 + number as u64, 5 + number as u64, 7, 7, number as u64] {
            body.extend(word.to_le_bytes());
        }
        for &item in &items {
            match is_compact {
                true => body.extend((builder.values[item].1 as u32).to_le_bytes()),
                false => body.extend([builder.values[item].1 as u64, 0].map(u64::to_le_bytes).concat()),
            }
        }
        let offset = builder.object(3, 0, &body) as u64;
        offsets.push(offset);
        for item in items {
            builder.values[item].2.push(offset);
        }
    }
    for (_, at, entries) in std::mem::take(&mut builder.values) {
        builder.put(at + 40, entries[0]);
        builder.put(at + 56, entries.len() as u64);
        if entries.len() > 1 {
            let array = builder.arrays(&entries[1..]);
            builder.put(at + 48, array);
        }
    }
    let array = builder.arrays(&offsets);
    let tail = builder.bytes.len() as u64;
    builder.bytes[..8].copy_from_slice(b"LPKSHHRH");
    builder.bytes[12] = 0b1010 | if is_compact { 16 } else { 0 };
    for (at, word) in [
        (72, 9),
        (88, 208),
        (96, tail - 208),
        (120, FIELD_TABLE as u64 + 16),
        (128, BUCKETS as u64 * 16),
        (152, offsets.len() as u64),
        (160, offsets.len() as u64),
        (168, 1),
        (176, array),
        (184, 1_000_000),
    ] {
        builder.put(at, word);
    }
    builder.bytes
}

impl Builder {
    fn object(&mut self, kind: u8, flags: u8, body: &[u8]) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.bytes.len();
        self.bytes.extend([kind, flags, 0, 0, 0, 0, 0, 0]);
        self.bytes.extend((body.len() as u64 + 16).to_le_bytes());
        self.bytes.extend(body);
        at
    }

    fn put(&mut self, at: usize, word: u64) {
        self.bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }

    fn get(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight"))
    }

    /// The number of this value among all.
    fn value(&mut self, payload: &[u8], kept: Kept) -> usize {
        if let Some(known) = self.values.iter().position(|(own, ..)| own == payload) {
            return known;
        }
        let name = payload.split(|byte| *byte == b'=').next().expect("a name").to_vec();
        let field = match self.fields.iter().find(|(own, _)| *own == name) {
            Some((_, at)) => *at,
            None => self.field(name),
        };
        let mut body = vec![0; if self.is_compact { 56 } else { 48 }];
        let length = payload.len();
        let flags = match kept {
            _ if length < 20 || length > 200 => {
                body.extend(payload);
                0
            }
            Kept::Plain => {
                body.extend(payload);
                0
            }
            Kept::Lz4 => {
                // One run of literals.
                body.extend((length as u64).to_le_bytes());
                body.extend([0xf0, (length - 15) as u8]);
                body.extend(payload);
                2
            }
            Kept::Zstd => {
                // One segment, one raw block, the last.
                body.extend([0x28, 0xb5, 0x2f, 0xfd, 0x20, length as u8]);
                body.extend(&((length as u32) << 3 | 1).to_le_bytes()[..3]);
                body.extend(payload);
                4
            }
        };
        let at = self.object(1, flags, &body);
        let before = self.get(field + 32);
        self.put(at + 32, before);
        self.put(field + 32, at as u64);
        self.values.push((payload.to_vec(), at, Vec::new()));
        self.values.len() - 1
    }

    fn field(&mut self, name: Vec<u8>) -> usize {
        let at = self.object(2, 0, &[&[0; 24][..], &name].concat());
        let mut link = FIELD_TABLE + 16 + name.len() % BUCKETS * 16;
        while self.get(link) != 0 {
            link = self.get(link) as usize + 24;
        }
        self.put(link, at as u64);
        self.fields.push((name, at));
        at
    }

    /// A chain of arrays: room for two, then for the rest.
    fn arrays(&mut self, offsets: &[u64]) -> u64 {
        let (first, rest) = offsets.split_at(offsets.len().min(2));
        let mut body = vec![0; 8];
        for &offset in first {
            match self.is_compact {
                true => body.extend((offset as u32).to_le_bytes()),
                false => body.extend(offset.to_le_bytes()),
            }
        }
        let at = self.object(6, 0, &body);
        if !rest.is_empty() {
            let next = self.arrays(rest);
            self.put(at + 16, next);
        }
        at as u64
    }
}
