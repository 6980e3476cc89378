"""The licences under which the pack's pictures and words are passed on."""

NOTICE = """\
This folder holds pictures and words that others made. Each set keeps its own licence.
All pictures were flattened on white, scaled to 64x64 pixels and stored as WebP.

google    Noto Emoji, (c) Google LLC.
          Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0
          Source: https://github.com/googlefonts/noto-emoji, by way of the npm package
          emoji-datasource-google 16.0.0 (package: MIT, (c) 2013 Cal Henderson).

twitter   Twemoji, (c) Twitter, Inc and other contributors.
          Creative Commons Attribution 4.0 International, https://creativecommons.org/licenses/by/4.0/
          Source: https://github.com/jdecked/twemoji, by way of the npm package
          emoji-datasource-twitter 16.0.0 (package: MIT, (c) 2013 Cal Henderson).

openmoji  All emojis designed by OpenMoji, the open-source emoji and icon project, https://openmoji.org/
          Creative Commons Attribution-ShareAlike 4.0 International,
          https://creativecommons.org/licenses/by-sa/4.0/
          The OpenMoji pictures in this folder, changed as said above, are passed on under the same
          licence. Source: npm package openmoji 17.0.0. Logos of brands are left out.

fluent    Fluent Emoji, (c) Microsoft Corporation.
          MIT License, text below. Source: https://github.com/microsoft/fluentui-emoji, by way of
          the npm package @lobehub/fluent-emoji-3d 1.1.0 (package: MIT, (c) 2023 LobeHub).

words     emojibase, (c) 2017-2019 Miles Johnson.
          MIT License, text below. Source: npm package emojibase-data 17.0.0; the labels and
          keywords of OpenMoji's own extras come from openmoji 17.0.0 (CC BY-SA 4.0).

MIT License

Permission is hereby granted, free of charge, to any person obtaining a copy of this software
and associated documentation files (the "Software"), to deal in the Software without
restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING
BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
