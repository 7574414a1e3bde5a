//! The targets of requests: RFC 9112 section 3.2.

use alloc::borrow::Cow;
use alloc::string::String;

use super::meaning::is_host;

/// Whether it is a path, a URL with a host, or the `*` of OPTIONS. What isn't ASCII is percent-encoded in all of them.
pub fn is_target(method: &[u8], target: &[u8]) -> bool {
    let is_form = match target {
        [b'/', ..] => true,
        b"*" => method == b"OPTIONS",
        _ => scheme_end(target).is_some_and(|end| {
            let whole = user_and_host(&target[end..]);
            let host = without_user(whole);
            !host.is_empty() && is_host(host) && target.get(end + whole.len()) != Some(&b'#')
        }),
    };
    is_form && target.is_ascii()
}

/// Path and query of a target: a URL's too, and never a fragment. None where it isn't UTF-8.
pub fn path_and_query(target: &[u8]) -> Option<Cow<'_, str>> {
    let target = core::str::from_utf8(target).ok()?;
    let target = target.split('#').next().unwrap_or_default();
    if target.starts_with('/') || target == "*" {
        return Some(Cow::Borrowed(target));
    }
    let rest = target.split_once("://").map_or("", |(_, rest)| rest);
    let rest = &rest[rest.find(['/', '?']).unwrap_or(rest.len())..];
    if rest.starts_with('/') { Some(Cow::Borrowed(rest)) } else { Some(Cow::Owned(String::from("/") + rest)) }
}

/// Host and port of a target, where that is a URL: they take the place of the header.
pub fn authority(target: &[u8]) -> Option<&str> {
    let host = without_user(user_and_host(&target[scheme_end(target)?..]));
    core::str::from_utf8(host).ok().filter(|host| !host.is_empty())
}

/// Where `://` ends behind the scheme of a URL: RFC 3986 section 3.1.
fn scheme_end(target: &[u8]) -> Option<usize> {
    let at = target.iter().position(|&byte| byte == b':')?;
    let (scheme, rest) = target.split_at(at);
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    (is_scheme && rest.starts_with(b"://")).then_some(at + 3)
}

/// What stands between `://` and the path.
fn user_and_host(rest: &[u8]) -> &[u8] {
    rest.split(|byte| b"/?#".contains(byte)).next().unwrap_or_default()
}

/// Host and port.
fn without_user(whole: &[u8]) -> &[u8] {
    whole.rsplit(|&byte| byte == b'@').next().unwrap_or_default()
}
