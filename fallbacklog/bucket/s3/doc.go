// Package s3 is a bucket behind the S3 protocol: Amazon's, and whatever speaks it,
// like Ceph, versitygw and Google Cloud Storage through its interoperability
// endpoint. Azure's Blob Storage does not, and is left out.
//
// # Addresses
//
//	s3://bucket/prefix?endpoint=http://127.0.0.1:7070&region=us-east-1&path_style=true
//
//	endpoint            host, or URL, of the server; Amazon's where there is none
//	region              default AWS_REGION, or AWS_DEFAULT_REGION, or what the server says
//	path_style          true: the bucket is in the path of a request, false: in the
//	                    host's name. Default: in the name at Amazon and Google, else in
//	                    the path. Also use_path_style, s3ForcePathStyle, and
//	                    hostname_immutable, which asks for the same
//	disable_https       true: http, where the endpoint does not say
//	profile             a section of the shared credentials file
//
// Credentials are those given to New, else of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
// and AWS_SESSION_TOKEN, else of the shared credentials file, else of the machine's or
// the container's role. They do not belong into an address.
//
// What is needed of a bucket's policy: s3:ListBucket, s3:GetObject, s3:PutObject.
// s3:DeleteObject is only used to take the probe of Check away, and may be denied.
//
// # Requests
//
// An object is one PUT, signed with the SHA-256 of its content, which the server has
// to compare with what it received before the object exists (commit point), and with
// that as its checksum, which is asked for afterwards. Where the server keeps none,
// the object is read back.
//
// PUT carries If-None-Match: * or If-Match: <etag>. Once a server has answered that
// it does not implement these, they are left out: comparing right before is all there
// is then.
//
// A request that failed for a passing reason is made again up to four times within
// about two seconds. One that stands still for a minute is given up. Nothing else
// is repeated here.
package s3
