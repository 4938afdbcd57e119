//! The text in which LVM keeps its metadata: sections in braces, `name = value`, lists in brackets, comments from `#`.

use std::collections::HashMap;

use crate::base::error::{Error, Result};
use crate::base::limits::{LVM_TEXT_DEPTH, LVM_TEXT_NODES};

#[derive(Debug, PartialEq, Eq)]
pub enum Node {
    Section(Section),
    List(Vec<Node>),
    Text(String),
    Number(i64),
}

/// In the order of the text. No name comes twice.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Section {
    pub entries: Vec<(String, Node)>,
    by_name: HashMap<String, usize>,
}

impl Section {
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.by_name.get(name).map(|&at| &self.entries[at].1)
    }

    pub fn section(&self, name: &str) -> Option<&Section> {
        match self.get(name)? {
            Node::Section(section) => Some(section),
            _ => None,
        }
    }

    pub fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.entries.iter().filter_map(|(name, node)| match node {
            Node::Section(section) => Some((name.as_str(), section)),
            _ => None,
        })
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Not below zero.
    pub fn count(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Node::Number(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// `None` where it is no list of texts alone.
    pub fn texts(&self, name: &str) -> Option<Vec<&str>> {
        let Node::List(list) = self.get(name)? else { return None };
        let text = |node: &'_ Node| matches!(node, Node::Text(_));
        let all = list.iter().all(text);
        let texts = list.iter().filter_map(|node| if let Node::Text(text) = node { Some(text.as_str()) } else { None });
        all.then(|| texts.collect())
    }
}

pub fn parse(bytes: &[u8]) -> Result<Section> {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut parser = Parser { bytes: &bytes[..end], at: 0, nodes: 0 };
    let section = parser.section(0)?;
    match parser.peek() {
        None => Ok(section),
        Some(_) => Err(parser.corrupt("a brace closes nothing")),
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: usize,
}

impl Parser<'_> {
    fn corrupt(&self, why: &str) -> Error {
        Error::corrupt("LVM metadata", self.at as u64, why)
    }

    /// The next byte that is neither space nor comment.
    fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'#' => {
                    let line = self.bytes[self.at..].iter().position(|&byte| byte == b'\n');
                    self.at = line.map_or(self.bytes.len(), |length| self.at + length);
                }
                _ if byte.is_ascii_whitespace() => self.at += 1,
                _ => return Some(byte),
            }
        }
        None
    }

    fn take(&mut self, wanted: u8) -> bool {
        let there = self.peek() == Some(wanted);
        self.at += usize::from(there);
        there
    }

    /// Up to the brace that closes it, which stays, or to the end of the text.
    fn section(&mut self, depth: usize) -> Result<Section> {
        let mut section = Section::default();
        while let Some(byte) = self.peek().filter(|&byte| byte != b'}') {
            let name = if byte == b'"' { self.quoted()? } else { self.bare()? };
            let node = if self.take(b'{') {
                if depth == LVM_TEXT_DEPTH {
                    return Err(self.corrupt("sections lie too deep in each other"));
                }
                let inner = self.section(depth + 1)?;
                if !self.take(b'}') {
                    return Err(self.corrupt("a section does not end"));
                }
                Node::Section(inner)
            } else if self.take(b'=') {
                self.value()?
            } else {
                return Err(self.corrupt("a name without a value"));
            };
            self.count()?;
            if section.by_name.insert(name.clone(), section.entries.len()).is_some() {
                return Err(self.corrupt("a name is given twice"));
            }
            section.entries.push((name, node));
        }
        Ok(section)
    }

    fn value(&mut self) -> Result<Node> {
        if !self.take(b'[') {
            return self.scalar();
        }
        let mut list = Vec::new();
        while !self.take(b']') {
            if !list.is_empty() && !self.take(b',') {
                return Err(self.corrupt("a list does not end"));
            }
            list.push(self.scalar()?);
            self.count()?;
        }
        Ok(Node::List(list))
    }

    /// A text in quotes, a number, or a bare word, which counts as text.
    fn scalar(&mut self) -> Result<Node> {
        if self.peek() == Some(b'"') {
            return self.quoted().map(Node::Text);
        }
        let word = self.bare()?;
        Ok(word.parse().map_or(Node::Text(word), Node::Number))
    }

    fn bare(&mut self) -> Result<String> {
        self.peek();
        let rest = &self.bytes[self.at..];
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b"#{}[]=,\"".contains(byte);
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.corrupt("a name or a value is missing"));
        }
        let word = self.utf8(rest[..length].to_vec());
        self.at += length;
        word
    }

    fn quoted(&mut self) -> Result<String> {
        let mut text = Vec::new();
        let mut rest = self.bytes[self.at + 1..].iter();
        loop {
            match rest.next() {
                Some(b'"') => break,
                Some(b'\\') => text.extend(rest.next()),
                Some(&byte) => text.push(byte),
                None => return Err(self.corrupt("a text does not end")),
            }
        }
        self.at = self.bytes.len() - rest.len();
        self.utf8(text)
    }

    fn utf8(&self, bytes: Vec<u8>) -> Result<String> {
        String::from_utf8(bytes).map_err(|_| self.corrupt("it is not UTF-8"))
    }

    fn count(&mut self) -> Result<()> {
        self.nodes += 1;
        if self.nodes > LVM_TEXT_NODES { Err(self.corrupt("too many names and values")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lvm_writes_is_read() {
        let text = b"vg {\n# a comment }\nseqno = 4\nid=\"a\\\"b\\\\\"\nstatus = [\"READ\", \"WRITE\"]\nempty = []\n\
            less = -5\nfloat = 1.5 # more\npv0 {\n\tstripes = [\n\"pv0\", 0\n]\n}\n}\nversion = 1\0\0";
        let section = parse(text).unwrap();
        assert_eq!(section.count("version"), Some(1));
        let group = section.section("vg").unwrap();
        assert_eq!((group.count("seqno"), group.text("id")), (Some(4), Some("a\"b\\")));
        assert_eq!((group.texts("status"), group.texts("empty")), (Some(vec!["READ", "WRITE"]), Some(vec![])));
        assert_eq!((group.count("less"), group.get("less")), (None, Some(&Node::Number(-5))));
        assert_eq!(group.text("float"), Some("1.5"));
        let Some(Node::List(list)) = group.section("pv0").unwrap().get("stripes") else { panic!("no list") };
        assert_eq!(list, &[Node::Text("pv0".into()), Node::Number(0)]);
        assert_eq!(group.section("pv0").unwrap().texts("stripes"), None);
    }

    #[test]
    fn what_is_broken_is_refused() {
        let deep = "a{".repeat(100_000);
        let many = "a=[".to_string() + &"1,".repeat(LVM_TEXT_NODES + 1);
        for text in [
            "a", "a=", "a={", "a{", "a}", "}", "a=[", "a=[1", "a=[1 2]", "a=[,]", "a=\"b", "a=\"b\\", "=1", "a=1 a=2",
            "a=[[1]]",
        ]
        .into_iter()
        .chain([deep.as_str(), many.as_str()])
        {
            assert!(parse(text.as_bytes()).is_err(), "{}", &text[..text.len().min(20)]);
        }
        assert!(parse(b"a=\"\xff\"").is_err());
        assert_eq!(parse(b"# nothing").unwrap(), Section::default());
    }
}
