{
  description = "trading-telemetry: a shell in which honcho start and the tests run";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { nixpkgs, ... }:
    let
      inherit (nixpkgs) lib;
      forEachSystem =
        outputOf:
        lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
          "x86_64-darwin"
          "aarch64-darwin"
        ] (system: outputOf nixpkgs.legacyPackages.${system});

      # nixpkgs has Chromium for Linux only; elsewhere the one of Playwright answers to the same name.
      chromium =
        pkgs:
        if pkgs.stdenv.hostPlatform.isLinux then
          pkgs.chromium
        else
          pkgs.writeShellScriptBin "chromium" ''
            exec ${pkgs.playwright-driver.browsers-chromium}/chromium-*/chrome-mac*/*.app/Contents/MacOS/* "$@"
          '';
    in
    {
      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShellNoCC {
          packages = [
            pkgs.python312
            pkgs.uv
            pkgs.honcho
            pkgs.prometheus
            pkgs.prometheus.cli # promtool
            pkgs.nodejs # with npm
            (chromium pkgs)
          ];

          env = {
            # No Python but the one above. UV_PYTHON would say so too, but make uv install into it instead of .venv.
            UV_PYTHON_PREFERENCE = "only-system";
          }
          // lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux {
            # PyPI's wheels expect these of the system, where Nix does not put them.
            LD_LIBRARY_PATH = lib.makeLibraryPath [
              pkgs.stdenv.cc.cc.lib
              pkgs.zlib
            ];
            # The Node.js inside Playwright's wheel expects more than that.
            PLAYWRIGHT_NODEJS_PATH = "${pkgs.nodejs}/bin/node";
          };

          shellHook = ''
            # It names the libraries of honcho, which are for another Python.
            unset PYTHONPATH
            root=$(git rev-parse --show-toplevel 2>/dev/null || pwd)
            export PATH="$root/.venv/bin:$PATH"
            # A .venv made outside, or with an earlier Python, would not fit the libraries above.
            {
              grep -qsF ${pkgs.python312}/bin "$root/.venv/pyvenv.cfg" ||
                uv venv --quiet --clear --python ${pkgs.python312}/bin/python3 "$root/.venv"
            } && "$root/bin/setup" ||
              echo "flake.nix: the environment could not be set up. Mend what is said above, then run bin/setup." >&2
          '';
        };
      });

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
