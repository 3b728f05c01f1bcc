# Builds openssl's own tests, in a chroot of the image's root: /job/files has the source, the result is
# /job/openssl-tests.tar.zst. Only the running of them is compared (sets/openssl); a build of this length is not (sets/build).
set -e
tar -xf /job/files/openssl_*.orig.tar.gz --no-same-owner
mv openssl-* openssl
cd openssl
./Configure linux-x86_64 enable-fips -g0
make -j"$(nproc)" build_sw
find . -name '*.[od]' -delete
find test fuzz apps -type f -perm -100 -exec strip {} + 2>/dev/null || true # some are scripts
cd ..
tar -cf - openssl | zstd -q -T0 >/job/openssl-tests.tar.zst
