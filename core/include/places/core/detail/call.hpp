// SPDX-License-Identifier: Apache-2.0
// Calls of servers as messages: a request carries arguments, its reply the result or an error.
#pragma once

#include <places/core/message.hpp>

namespace places::detail {

template <class... Arguments>
message make_request(std::uint64_t id, std::string_view method, const Arguments&... arguments) {
    const auto fill = [&](datum_list_writer list) {
        std::size_t i = 0;
        (detail::write(list[i++], arguments), ...);
        (void)list, (void)i;
    };
    return {message_kind::request, 0,
            build_request((detail::words_of(arguments) + ... + 0), id, method, sizeof...(Arguments),
                          [](datum_list_writer list, const void* context) {
                              (*static_cast<decltype(fill)*>(context))(list);
                          },
                          &fill)};
}

template <class T>
message make_reply(std::uint64_t id, const T& answer) {
    return {message_kind::reply, 0,
            build_reply(
                detail::words_of(answer), id,
                [](datum_writer root, const void* context) {
                    detail::write(root, *static_cast<const T*>(context));
                },
                &answer)};
}

inline message make_void_reply(std::uint64_t id) { return make_reply(id, void_value{}); }

inline message make_error_reply(std::uint64_t id, std::string_view text) {
    return {message_kind::reply, 0, build_error_reply(id, text)};
}

/// A call as the server receives it. Owns its message; arguments are decoded when asked for.
class request {
  public:
    /// Returns: a request | wrong_type | corrupt.
    static result<request> parse(message m) {
        if (m.kind() != message_kind::request) return make_error_code(errc::wrong_type);
        result<request_head> head = parse_request_head(m.bytes());
        if (head.has_error()) return head.error();
        return request(std::move(*head), std::move(m));
    }

    std::uint64_t id() const noexcept { return head_.id; }
    std::string_view method() const noexcept { return head_.method; }
    std::size_t argument_count() const noexcept { return head_.argument_count; }
    std::string describe() const { return message_.describe(); }

    /// Returns: just these arguments | wrong_type, also for another number of them | corrupt.
    template <class... Arguments>
    result<std::tuple<Arguments...>> arguments() const {
        std::tuple<Arguments...> out{blank<Arguments>()...};
        const result<void> parsed = parse_arguments(
            message_.bytes(),
            [](datum_list_reader list, void* context) {
                return read_tuple(list, *static_cast<std::tuple<Arguments...>*>(context),
                                  std::index_sequence_for<Arguments...>{});
            },
            &out);
        return outcome(parsed, std::move(out));
    }

  private:
    request(request_head head, message m) : head_(std::move(head)), message_(std::move(m)) {}

    request_head head_;
    message message_;
};

/// An answer as the client receives it.
class reply {
  public:
    /// Returns: a reply | wrong_type | corrupt.
    static result<reply> parse(message m) {
        if (m.kind() != message_kind::reply) return make_error_code(errc::wrong_type);
        result<reply_head> head = parse_reply_head(m.bytes());
        if (head.has_error()) return head.error();
        return reply(std::move(*head), std::move(m));
    }

    std::uint64_t id() const noexcept { return head_.id; }
    bool is_error() const noexcept { return head_.is_error; }
    std::string describe() const { return message_.describe(); }
    /// What the method threw; empty when it did not.
    const std::string& error_text() const noexcept { return head_.error_text; }

    /// Returns: the result, void for `as<void>` | remote_error | wrong_type | corrupt.
    template <class T>
    result<T> as() const {
        if (is_error()) {
            return result<T>(boost::system::in_place_error, make_error_code(errc::remote_error));
        }
        if constexpr (std::is_void_v<T>) {
            const result<void_value> nothing = as<void_value>();
            if (nothing.has_error()) return nothing.error();
            return {};
        } else {
            T out = blank<T>();
            const result<void> parsed = parse_result(
                message_.bytes(),
                [](datum_reader root, void* context) {
                    return detail::read(root, *static_cast<T*>(context));
                },
                &out);
            return outcome(parsed, std::move(out));
        }
    }

  private:
    reply(reply_head head, message m) : head_(std::move(head)), message_(std::move(m)) {}

    reply_head head_;
    message message_;
};

}  // namespace places::detail
