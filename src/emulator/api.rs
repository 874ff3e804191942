//! The calls that the emulator answers, under the names each side has for them.

/// A call of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Api {
    /// Gives the endpoint of one data-plane API of one stream.
    GetDataEndpoint,
    /// Describes one stream.
    DescribeStream,
    /// Lists the streams of the account.
    ListStreams,
    /// Lists a stream's tags.
    ListTagsForStream,
    /// Lists a stream's fragments.
    ListFragments,
    /// Makes an MP4 of a stream's fragments.
    GetClip,
}

impl Api {
    /// Every call.
    pub const ALL: [Self; 6] = [
        Self::GetDataEndpoint,
        Self::DescribeStream,
        Self::ListStreams,
        Self::ListTagsForStream,
        Self::ListFragments,
        Self::GetClip,
    ];

    /// The name in documentation and, after `kinesisvideo:`, in IAM policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GetDataEndpoint => "GetDataEndpoint",
            Self::DescribeStream => "DescribeStream",
            Self::ListStreams => "ListStreams",
            Self::ListTagsForStream => "ListTagsForStream",
            Self::ListFragments => "ListFragments",
            Self::GetClip => "GetClip",
        }
    }

    /// The last element of the request's path.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::GetDataEndpoint => "getDataEndpoint",
            Self::DescribeStream => "describeStream",
            Self::ListStreams => "listStreams",
            Self::ListTagsForStream => "listTagsForStream",
            Self::ListFragments => "listFragments",
            Self::GetClip => "getClip",
        }
    }

    /// The call of that path element.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.path() == path)
    }

    /// Whether the call goes to an endpoint from `GetDataEndpoint`.
    pub const fn is_data_plane(self) -> bool {
        matches!(self, Self::ListFragments | Self::GetClip)
    }
}

/// The values of `GetDataEndpoint`'s `APIName`; the emulator serves only two of them, but knows them all.
pub(super) const ENDPOINT_NAMES: [(&str, Option<Api>); 8] = [
    ("PUT_MEDIA", None),
    ("GET_MEDIA", None),
    ("LIST_FRAGMENTS", Some(Api::ListFragments)),
    ("GET_MEDIA_FOR_FRAGMENT_LIST", None),
    ("GET_HLS_STREAMING_SESSION_URL", None),
    ("GET_DASH_STREAMING_SESSION_URL", None),
    ("GET_CLIP", Some(Api::GetClip)),
    ("GET_IMAGES", None),
];
